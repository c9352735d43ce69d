"""What the pages of docs/ show works, and prints what they say."""

import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import savi
from savi import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def code(name: str, words: str) -> str:
    """The first example of a page that has these words."""
    return next(
        block for block in re.findall(r"```python\n(.*?)```", page(name), re.S) if words in block
    )


#: Two epochs, and no long evaluation.
SHORT = ("trainer.max_epochs=2", "model.hidden=8", "logger=csv", "callbacks.figures=false")
OFF = ("evaluation.ais_examples=0", "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0")


@pytest.fixture
def images(tmp_path, monkeypatch) -> np.ndarray:
    """A user's own data in the current folder, which is empty otherwise."""
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", load_digits().images.astype(np.uint8)[:120])
    return np.load("images.npy")


@pytest.mark.slow
def test_own_data_become_a_model_codes_and_a_page(command, images, capsys):
    section = page("start").partition("## Your own data")[2].partition("\n## ")[0]
    shell, python = re.findall(r"```(?:bash|python)\n(.*?)```", section, re.S)
    assert len((shell + python).split("\n")) <= 12
    train, report = (shlex.split(line) for line in shell.splitlines())
    assert (train[0], report[0]) == ("savi-train", "savi-report")
    # The last value of a key counts.
    command(cli.train, *train[1:], *SHORT, *OFF)
    command(cli.report, *report[1:])
    assert "runs/mine" in Path("mine.html").read_text("utf-8")
    capsys.readouterr()
    exec(compile(python, "start.md", "exec"), {"__name__": "docs"})
    assert capsys.readouterr().out.startswith("tensor([")
    assert np.load("codes.npy").shape == (120, 16)


@pytest.mark.slow
def test_the_example_of_a_trained_model(images):
    training = code("use", "savi.train(")
    short = ", ".join(map(repr, SHORT + OFF))
    training = training.replace('"trainer.max_epochs=20"', short)
    loading = code("use", "savi.load(")
    named = re.search(r"savi_ift/([\w-]+)", loading).group(1)
    names: dict = {"__name__": "docs"}
    exec(compile(training, "use.md", "exec"), names)
    assert names["posterior"].mean.shape == (120, 16)
    (run,) = Path("runs/arrays/savi_ift").iterdir()
    assert re.fullmatch(r"(seed-0_)?[\d_-]+", run.name)
    exec(compile(loading.replace(named, run.name), "use.md", "exec"), names)
    again = names["model"].encode(images).mean
    assert np.allclose(again, names["posterior"].mean, atol=1e-4)
    # As a hub's client keeps a file: alone, and by a link.
    Path("blobs").mkdir()
    shutil.move(run / "checkpoints" / "best.ckpt", "blobs/0123abcd")
    shutil.rmtree("runs")
    Path("best.ckpt").symlink_to(Path("blobs/0123abcd").resolve())
    assert np.allclose(savi.load("best.ckpt").encode(images).mean, again, atol=1e-4)


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


PACKAGES = ("data", "evaluation", "gradients", "implicit", "inference", "inner", "linear")


@pytest.fixture(scope="module")
def described() -> list[object]:
    """What the pages of the reference describe."""
    found = []
    for file in (DOCS / "api").glob("*.md"):
        for path in re.findall(r"^::: (\S+)$", file.read_text(encoding="utf-8"), re.M):
            module, _, name = path.rpartition(".")
            if path != "savi.types":
                found.append(getattr(import_module(module), name))
    return found


@pytest.mark.parametrize(
    "package", ["savi", *(f"savi.{name}" for name in (*PACKAGES, "training", "vae"))]
)
def test_the_reference_has_every_public_name(package, described):
    module = import_module(package)
    for name in module.__all__:
        public = getattr(module, name)
        if public.__class__.__name__ != "module":
            assert any(public is one for one in described), f"{package}.{name}"
