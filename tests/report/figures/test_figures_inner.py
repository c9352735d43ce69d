import numpy as np
import pytest
import torch

from savi.errors import InputError
from savi.report.figures import elbo_against_inner_step, save

GENERATOR = torch.Generator().manual_seed(0)


def solve(steps, examples):
    k = torch.arange(steps + 1, dtype=torch.float64)[:, None]
    rate = 0.3 + 0.4 * torch.rand(examples, generator=GENERATOR)
    start = -100 * torch.rand(examples, generator=GENERATOR)
    return start + 10 * (1 - rate**k), rate**k


def test_median_gain_and_stationarity():
    elbo, stationarity = solve(20, 101)
    left, right = elbo_against_inner_step(elbo, stationarity).axes
    assert left.get_title(loc="left") == "Gain in ELBO over $\\lambda_0$"
    assert (left.get_xlabel(), left.get_ylabel()) == ("inner step k", "nats")
    gain = (elbo - elbo[0]).median(dim=1).values
    np.testing.assert_allclose(left.lines[0].get_xdata(), np.arange(21))
    np.testing.assert_allclose(left.lines[0].get_ydata(), gain)
    assert right.get_yscale() == "log"
    np.testing.assert_allclose(right.lines[0].get_ydata(), stationarity.median(dim=1).values)
    legend = [text.get_text() for text in left.get_legend().get_texts()]
    assert legend == ["median of 101 examples", "10–90 %"]


def test_band_reaches_from_the_tenth_to_the_ninetieth_percentile():
    elbo = torch.stack([torch.zeros(11), torch.arange(11.0)])
    left, _ = elbo_against_inner_step(elbo, torch.ones(2, 11)).axes
    (band,) = left.collections
    vertices = band.get_paths()[0].vertices
    assert sorted(set(vertices[vertices[:, 0] == 1, 1])) == [1.0, 9.0]


def test_the_first_gain_stays_in_view():
    elbo, stationarity = solve(200, 8)
    left, _ = elbo_against_inner_step(elbo, stationarity).axes
    assert left.get_ylim()[0] <= 0
    assert left.get_ylabel() == "nats"


def test_one_example_has_no_band():
    left, right = elbo_against_inner_step(*solve(3, 1)).axes
    assert not left.collections
    assert not right.collections
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["one example"]


def test_no_inner_steps_are_said():
    figure = elbo_against_inner_step(torch.tensor([[-30.0, -20.0, -10.0]]), torch.ones(1, 3))
    (axes,) = figure.axes
    told = [text.get_text() for text in axes.texts]
    assert told == ["No inner steps (K = 0): the median ELBO is −20 nats"]


def test_values_that_are_not_finite_are_left_out_and_counted():
    elbo, stationarity = solve(4, 5)
    whole = (elbo - elbo[0]).clone()
    elbo[3:, 0] = torch.nan
    elbo[4, :] = torch.inf
    left, right = elbo_against_inner_step(elbo, stationarity).axes
    gain = left.lines[0].get_ydata()
    np.testing.assert_allclose(gain[3], np.median(whole[3, 1:]))
    assert np.isnan(gain[4])
    assert left.get_xlabel() == "inner step k (6 values not finite)"
    assert right.get_xlabel() == "inner step k"
    assert left.get_xlim() == right.get_xlim()


@pytest.mark.parametrize("value", [torch.nan, -torch.inf, 0.0])
def test_nothing_to_draw_is_no_fault(value, tmp_path):
    figure = elbo_against_inner_step(torch.full((4, 2), value), torch.full((4, 2), value))
    assert figure.axes[1].get_yscale() == "linear"
    assert save(figure, tmp_path / "inner.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("elbo", "stationarity"), [((3, 2), (2, 2)), ((3,), (3,)), ((3, 0), (3, 0))]
)
def test_shapes_that_do_not_fit_are_refused(elbo, stationarity):
    with pytest.raises(InputError, match=r"pass both as \[K\+1, B\]"):
        elbo_against_inner_step(torch.zeros(elbo), torch.zeros(stationarity))
