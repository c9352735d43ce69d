"""Step lengths: the Armijo rule, the parabola's minimum, and powers of two."""

import pytest
import torch

from savi.inner.optimizers import Point
from savi.inner.optimizers.step_length import judge_length, nearest_power, unit_length


def judged(curvature, value=None):
    """A step of length 1 down J(t) = −t + ½ c t²."""
    y = torch.zeros(len(curvature), 1, dtype=torch.float64)
    after = 0.5 * torch.tensor(curvature, dtype=torch.float64) - 1.0
    after = after if value is None else torch.full_like(after, value)
    return judge_length(Point(y, torch.zeros_like(after), y - 1.0), y + 1.0, after)


def test_the_factor_leads_next_to_the_minimum_of_the_parabola():
    curvature = [1.0, 2.1, 4.0, 10.0, 0.5, 0.1, -3.0]
    accepted, factor = judged(curvature)
    assert accepted.tolist() == [True, False, False, False, True, True, True]
    assert factor.tolist() == [1.0, 0.5, 0.25, 0.125, 2.0, 4.0, 4.0]


def test_a_barely_lower_value_is_not_enough():
    accepted, factor = judged([2.0 - 1e-5])
    assert accepted.tolist() == [False]
    assert factor.tolist() == [0.5]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -float("inf")])
def test_a_value_that_is_not_finite_is_rejected(value):
    accepted, factor = judged([1.0], value)
    assert not accepted.any()
    assert factor.tolist() == [0.125]


def test_rounding_is_no_parabola():
    y = torch.zeros(2, 1, dtype=torch.float64)
    one = torch.ones(2, dtype=torch.float64)
    noise = one.new_tensor([2e-16, -2e-16])
    accepted, factor = judge_length(Point(y, one, y - 1e-16), y + 1.0, one + noise)
    assert accepted.all()
    assert (factor == 1.0).all()


def test_unit_length():
    direction = torch.tensor([[3e-7, 0.0], [0.0, 5e9], [0.0, 0.0], [1.0, 0.0]])
    length = unit_length(direction)
    assert length.isfinite().all()
    assert length[3] == 1.0
    reached = length[:2] * direction[:2].norm(dim=-1)
    assert ((reached > 0.7) & (reached < 1.42)).all()
    assert torch.equal(length.log2(), length.log2().round())


def test_nearest_power():
    assert nearest_power(torch.tensor([1.0, 1.4, 1.5, 3.0, 0.3])).tolist() == [1, 1, 2, 4, 0.25]
