import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import savi
from savi.report.figures import (
    elbo_against_inner_step,
    image_grid,
    learning_curves,
    reconstructions,
    save,
)
from savi.report.figures.style import IMAGES, message

X = torch.linspace(0, 1, 48).reshape(3, 16)


def bands() -> Figure:
    """Translucent bands that overlap: more colours than a palette has."""
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot()
    for i in range(24):
        axes.fill_between([0, 1], [i, 23 - i], [i + 9, 32 - i], alpha=0.15, color=f"C{i % 10}")
    return figure


DRAWINGS = {
    "images": lambda: image_grid(X, "Images", shape=(1, 4, 4)),
    "vectors": lambda: reconstructions(X, X * 0.5, X * 0.9, None, (16,)),
    "curves": lambda: learning_curves({"train/elbo": ([1, 2, 3], [1.0, 2.0, 3.0])}),
    "inner": lambda: elbo_against_inner_step(X, 1 / (1 + X)),
    "bands": bands,
    "message": lambda: message("Nothing"),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_the_same_data_give_the_same_bytes(draw, tmp_path):
    figure = draw()
    first = save(figure, tmp_path / "first.png").read_bytes()
    again = save(figure, tmp_path / "again.png").read_bytes()
    redrawn = save(draw(), tmp_path / "redrawn.png").read_bytes()
    assert first == again == redrawn
    with Image.open(tmp_path / "first.png") as image:
        assert set(image.info) == {IMAGES}
        # A drawing, with no more colours than it needs.
        assert image.mode == "P"


def test_the_look_does_not_depend_on_the_users_settings(tmp_path):
    draw = DRAWINGS["curves"]
    expected = save(draw(), tmp_path / "expected.png").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 10}):
        assert save(draw(), tmp_path / "drawn.png").read_bytes() == expected


def test_the_users_settings_are_left_alone():
    before = dict(matplotlib.rcParams)
    DRAWINGS["images"]()
    assert dict(matplotlib.rcParams) == before


def test_figures_are_wide_enough_to_read(tmp_path):
    path = save(DRAWINGS["curves"](), tmp_path / "figures" / "curves.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 1150 < image.width < 1250


def test_reports_need_no_training_stack_and_no_global_figures():
    unwanted = {"pytorch_lightning", "lightning", "hydra", "wandb", "matplotlib.pyplot"}
    code = (
        "import sys, savi.report.figures, savi.report.table;"
        f"sys.exit(', '.join({unwanted!r} & set(sys.modules)) or 0)"
    )
    root = Path(savi.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
