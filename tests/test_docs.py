"""What the pages of docs/ show works, and prints what they say."""

import re
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def code(name: str, words: str) -> str:
    """The first example of a page that has these words."""
    return next(
        block for block in re.findall(r"```python\n(.*?)```", page(name), re.S) if words in block
    )


def test_the_example_of_a_trained_model(tmp_path, monkeypatch, capsys):
    # Two epochs instead of 20, and no long evaluation.
    short = ["trainer.max_epochs=2", "model.hidden=8", "logger=csv", "callbacks.figures=false"]
    off = [f"evaluation.{key}=0" for key in ("ais_examples", "gap_examples", "autoencoder_steps")]
    training = code("use", "savi.train(")
    training = training.replace('"trainer.max_epochs=20"', ", ".join(map(repr, short + off)))
    loading = code("use", "savi.load(")
    stamp = re.search(r"\d{4}-\d\d-\d\d_[\d-]+", loading).group()
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", load_digits().images.astype(np.uint8)[:120])
    names: dict = {"__name__": "docs"}
    exec(compile(training, "use.md", "exec"), names)
    assert names["posterior"].mean.shape == (120, 16)
    (run,) = Path("runs/arrays/savi_ift").iterdir()
    assert re.fullmatch(r"[\d_-]+", run.name)
    exec(compile(loading.replace(stamp, run.name), "use.md", "exec"), names)
    assert np.allclose(
        names["model"].encode(names["images"]).mean, names["posterior"].mean, atol=1e-4
    )


def test_tables_name_every_backend_and_solver():
    from benchmarks.known import BENCHMARKS

    from savi.gradients import BACKENDS, OnFailure
    from savi.linear import SOLVERS

    for name, cls in BACKENDS.items():
        assert f"| `{name}` | `{cls.__name__}(" in page("minimize")
    for name in (*SOLVERS, *(policy.value for policy in OnFailure)):
        assert f"`{name}`" in page("minimize")
    for name in BENCHMARKS:
        assert f"python scripts/benchmark.py {name}" in page("benchmarks")


def test_every_sweep_launcher_and_script_is_named():
    for path in (ROOT / "conf" / "sweep").glob("*.yaml"):
        assert f"| `{path.stem}` |" in page("sweeps")
    for path in (ROOT / "conf" / "hydra" / "launcher").glob("*.yaml"):
        assert f"`{path.stem}`" in page("sweeps")
    assert "scripts/workspace.py" in page("dashboards")
    assert "scripts/wandb_sweep.yaml" in page("sweeps")


def test_the_example_of_the_theorem(capsys):
    exec(compile(code("theorem", "onto_simplex"), "theorem.md", "exec"), {"__name__": "docs"})
    shown = " ".join(capsys.readouterr().out.split())
    assert "[ 0.5000, -0.5000, " in shown
    assert "[[False, False, True]]" in shown
    assert "[False]" in shown


def test_every_example_of_the_theorem_has_a_page_that_names_it():
    scripts = list((ROOT / "scripts" / "examples").glob("*.py"))
    assert len(scripts) > 5
    for script in scripts:
        row = re.search(
            rf"\| \[[^]]+\]\((\w+)\.md\) \| `{script.name}` \|",
            page("theorem"),
        )
        assert row, script.name
        assert f"scripts/examples/{script.name}" in page(row.group(1))


def test_pictures_are_there():
    pictures = [
        picture
        for file in DOCS.glob("*.md")
        for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", file.read_text(encoding="utf-8"))
    ]
    assert len(pictures) > 5
    for picture in pictures:
        assert (DOCS / picture).is_file(), picture
