"""What the README shows works, and prints what it says."""

import re
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_of_minimize(capsys):
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "ridge" in block
    )
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    lines = capsys.readouterr().out.splitlines()
    errors = [float(line.split()[1]) for line in lines[:60]]
    said = re.search(r"held-out error falls from (\d+\.\d+) to (\d+\.\d+)", README)
    assert [f"{errors[0]:.2f}", f"{errors[-1]:.2f}"] == list(said.groups())
    assert lines[-1].startswith("32 CONVERGED")


def test_the_example_of_a_trained_model(tmp_path, monkeypatch, capsys):
    code = next(
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.S)
        if "savi.train(" in block
    )
    # Two epochs instead of 20, and no long evaluation.
    short = ["trainer.max_epochs=2", "model.hidden=8", "logger=csv", "callbacks.figures=false"]
    off = [f"evaluation.{key}=0" for key in ("ais_examples", "gap_examples", "autoencoder_steps")]
    code = code.replace('"trainer.max_epochs=20"', ", ".join(map(repr, short + off)))
    stamp = re.search(r"\d{4}-\d\d-\d\d_[\d-]+", code).group()
    training, loading = code.split("# or, of a run folder or\n")
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", load_digits().images.astype(np.uint8)[:120])
    names: dict = {"__name__": "readme"}
    exec(compile(training, "README.md", "exec"), names)
    (run,) = Path("runs/arrays/savi_ift").iterdir()
    assert re.fullmatch(r"[\d_-]+", run.name)
    exec(compile(loading.replace(stamp, run.name), "README.md", "exec"), names)
    assert names["posterior"].mean.shape == (120, 16)


def test_tables_name_every_backend_and_solver():
    from benchmarks.known import BENCHMARKS

    from savi.gradients import BACKENDS, OnFailure
    from savi.linear import SOLVERS

    for name, cls in BACKENDS.items():
        assert f"| `{name}` | `{cls.__name__}(" in README
    for name in (*SOLVERS, *(policy.value for policy in OnFailure)):
        assert f"`{name}`" in README
    for name in BENCHMARKS:
        assert f"python scripts/benchmark.py {name}" in README


def test_every_sweep_launcher_and_script_is_named():
    root = Path(__file__).parents[1]
    for path in (root / "conf" / "sweep").glob("*.yaml"):
        assert f"| `{path.stem}` |" in README
    for path in (root / "conf" / "hydra" / "launcher").glob("*.yaml"):
        assert f"`{path.stem}`" in README
    for name in ("workspace.py", "wandb_sweep.yaml"):
        assert f"scripts/{name}" in README


def test_the_example_of_the_theorem(capsys):
    code = next(
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.S)
        if "onto_simplex" in block
    )
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    shown = " ".join(capsys.readouterr().out.split())
    assert "[ 0.5000, -0.5000, " in shown
    assert "[[False, False, True]]" in shown
    assert "[False]" in shown


def test_every_example_of_the_theorem_has_a_page_that_names_it():
    root = Path(__file__).parents[1]
    scripts = list((root / "scripts" / "examples").glob("*.py"))
    assert len(scripts) > 5
    for script in scripts:
        row = re.search(rf"\| \[[^]]+\]\((docs/\w+\.md)\) \| `{script.name}` \|", README)
        assert row, script.name
        assert f"scripts/examples/{script.name}" in (root / row.group(1)).read_text("utf-8")


def test_pictures_are_there():
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(pictures) > 5
    for picture in pictures:
        assert (Path(__file__).parents[1] / picture).is_file(), picture
