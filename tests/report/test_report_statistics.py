import math

import numpy as np
import pytest
from scipy import stats

from savi.report.settings import pareto_front, summarise


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_is_students(n):
    values = np.random.default_rng(n).normal(3.0, 2.0, n)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    summary = summarise(values)
    assert summary.n == n
    assert summary.mean == pytest.approx(values.mean())
    assert summary.mean - summary.half_width == pytest.approx(low)
    assert summary.mean + summary.half_width == pytest.approx(high)


def test_two_values_have_the_interval_of_the_textbook():
    # t with one degree of freedom: tan(0.475 π) = 12.706; s / √2 = |a − b| / 2.
    assert summarise([0.0, 2.0]).half_width == pytest.approx(math.tan(0.475 * math.pi))


def test_one_value_has_no_interval():
    assert summarise([4.0]).mean == 4.0
    assert summarise([4.0]).half_width is None


def test_values_that_are_not_finite_are_counted_and_left_out():
    summary = summarise([1.0, math.nan, 3.0, math.inf])
    assert (summary.mean, summary.n, summary.omitted) == (2.0, 2, 2)
    nothing = summarise([math.nan])
    assert math.isnan(nothing.mean)
    assert (nothing.n, nothing.half_width) == (0, None)


def test_the_front_is_what_nothing_dominates():
    costs = np.array([1.0, 2.0, 2.0, 3.0, 4.0, 0.5, 3.5])
    values = np.array([1.0, 3.0, 2.0, 3.0, 5.0, np.nan, np.inf])
    assert pareto_front(costs, values).tolist() == [True, True, False, False, True, False, False]


def test_equal_points_are_on_the_front_together():
    assert pareto_front(np.ones(2), np.ones(2)).all()


def test_the_largest_numbers_have_a_summary_without_a_warning():
    assert summarise([1e300, -1e300]).half_width == math.inf
    assert summarise([1.7e308, 1.7e308]).mean == math.inf
