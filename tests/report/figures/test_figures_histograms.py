import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from savi.errors import InputError
from savi.report.figures import inner_histograms, save
from savi.report.figures.style import BLUE, VERMILION

GENERATOR = torch.Generator().manual_seed(0)
NORMS = 10 ** (-6 * torch.rand(300, generator=GENERATOR))


def bars(axes):
    return [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in axes.patches]


def test_every_example_is_in_a_bar():
    curvature = 1 + torch.rand(64, generator=GENERATOR)
    left, right = inner_histograms(NORMS, curvature).axes
    assert sum(height for *_, height in bars(left)) == 300
    assert sum(height for *_, height in bars(right)) == 64
    assert (left.get_xscale(), right.get_xscale()) == ("log", "linear")
    assert left.get_title(loc="left") == "Relative stationarity"
    (median,) = left.lines
    assert median.get_xdata()[0] == pytest.approx(float(NORMS.double().quantile(0.5)))


def test_bars_hold_what_lies_between_their_edges():
    left, _ = inner_histograms(NORMS, NORMS).axes
    for start, width, height in bars(left)[1:-1]:
        assert height == int(((start <= NORMS) & (start + width > NORMS)).sum())


def test_curvatures_of_both_signs_never_share_a_bar():
    curvature = torch.linspace(-1, 3, 100)
    _, right = inner_histograms(NORMS, curvature).axes
    assert not any(start < 0 < start + width for start, width, _ in bars(right))
    negative = [bar for bar in right.patches if bar.get_facecolor() == to_rgba(VERMILION)]
    assert sum(bar.get_height() for bar in negative) == int((curvature < 0).sum())
    others = {bar.get_facecolor() for bar in right.patches} - {to_rgba(VERMILION)}
    assert others == {to_rgba(BLUE)}


def test_curvatures_over_decades_have_a_logarithmic_axis():
    _, right = inner_histograms(NORMS, NORMS).axes
    assert right.get_xscale() == "log"


def test_unknown_curvature_has_no_panel():
    assert len(inner_histograms(NORMS, None).axes) == 1


def test_what_cannot_be_drawn_is_counted(tmp_path):
    norms = torch.tensor([0.0, torch.nan, 1e-3, 1e-2])
    figure = inner_histograms(norms, torch.tensor([torch.inf, 1.0, 2.0]))
    left, right = figure.axes
    assert left.get_xlabel().endswith("(2 values not positive)")
    assert right.get_xlabel().endswith("(1 value not finite)")
    assert sum(height for *_, height in bars(left)) == 2
    assert save(figure, tmp_path / "histograms.png").stat().st_size > 1000


@pytest.mark.parametrize("value", [1e-3, 1.0, 0.0])
def test_equal_values_are_drawn(value, tmp_path):
    values = torch.full((5,), value)
    figure = inner_histograms(values, values)
    assert sum(height for *_, height in bars(figure.axes[1])) == 5
    assert save(figure, tmp_path / "histograms.png").stat().st_size > 1000
    ticks = np.diff(figure.axes[1].get_xticks())
    assert (ticks > 1e-4 * value).all()


def test_nothing_to_draw_is_said_or_refused():
    (axes,) = inner_histograms(torch.full((3,), torch.nan), None).axes
    assert [text.get_text() for text in axes.texts] == ["No inner solve ended at a finite point"]
    with pytest.raises(InputError, match="no inner solve to draw"):
        inner_histograms(torch.zeros(0), None)
