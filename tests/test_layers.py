"""Dependencies point one way, and the library layers work without the training stack."""

import subprocess
import sys

import architecture
import pytest

LIBRARY = ("linear", "inner", "gradients", "implicit", "vae", "inference")
HEAVY = ("pytorch_lightning", "hydra", "omegaconf", "wandb", "matplotlib", "sklearn", "torchvision")


@pytest.fixture(scope="module")
def imports() -> architecture.Imports:
    return architecture.files()


@pytest.mark.slow
def test_the_library_imports_no_training_stack():
    """Of several parts that one process imports, the first that loads any of it is told."""
    code = (
        "import pkgutil, importlib, sys\n"
        f"for name in {LIBRARY!r}:\n"
        "    part = importlib.import_module('savi.' + name)\n"
        "    for module in pkgutil.walk_packages(part.__path__, part.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        f"    print(name, *(heavy for heavy in {HEAVY!r} if heavy in sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split("\n") == [*LIBRARY, ""]


def test_there_is_no_circle_of_files(imports):
    assert architecture.circle(imports) == []
    assert "savi.errors" in architecture.circle(imports | {"savi.errors": {"savi.cli"}})


def test_no_import_runs_back_up(imports):
    between = architecture.parts(imports)
    assert architecture.arrows_up(between) == []
    between["inner"].add("vae")
    assert architecture.arrows_up(between) == [("inner", "vae")]


def test_the_picture_is_up_to_date(imports):
    page = architecture.PAGE.read_text("utf-8")
    drawn = architecture.picture(architecture.parts(imports))
    assert drawn.count("-->") > 20
    assert architecture.with_picture(page, drawn) == page


def test_the_inner_problem_knows_nothing_of_vaes(imports):
    between = architecture.parts(imports)
    assert between["inner"] <= {"errors", "types", "settings", "registry", "linear"}
