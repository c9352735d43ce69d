"""An example whose solve meets numbers that are none ends at the best iterate that it had."""

import pytest
import torch

import savi
from savi.gradients import Unrolled
from savi.inner import Adam, GradientDescent, Momentum, Reason
from savi.training.solve_totals import SolveTotals

EDGES = torch.tensor([torch.inf, 1.5, 2.5, -1.0], dtype=torch.float64)


@pytest.mark.parametrize(
    "optimizer", [GradientDescent(lr=0.1), Momentum(lr=0.02), Adam(lr=0.3)], ids=lambda o: o.name
)
def test_a_solve_that_falls_off_an_edge_is_kept_at_its_best_and_counted(optimizer):
    target = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    seen = []

    def problem(y):
        value = (y - target).square().sum(-1)
        value = torch.where(y[:, 0] > EDGES, torch.nan, value)
        seen.append(value.detach().clone())
        return value

    start = torch.zeros(4, 2, dtype=torch.float64)
    solution = savi.minimize(
        problem, start, optimizer=optimizer, gradient=Unrolled(), max_steps=25, rtol=0.0
    )
    visited = torch.stack(seen)
    best = visited.nan_to_num(nan=torch.inf).amin(dim=0)
    assert solution.reason.tolist()[1:] == [Reason.NOT_FINITE] * 3
    assert solution.objective[0].isfinite()
    # Better than the start, where there was anything better.
    torch.testing.assert_close(solution.objective[1:3], best[1:3], rtol=0, atol=0)
    assert (solution.objective[1:3] < visited[0, 1:3]).all()
    torch.testing.assert_close(problem(solution.value)[1:3], best[1:3], rtol=0, atol=0)
    # Of the last one nothing is known but its start.
    assert torch.equal(solution.value[3], start[3])
    (gradient,) = torch.autograd.grad(solution.value.sum(), target)
    assert gradient.isfinite()
    totals = SolveTotals()
    totals.add(solution)
    assert totals.metrics() == {
        "inner/solves": 4.0, "inner/solves_failed": 3.0, "inner/solves_failed/diverged": 3.0,
    }  # fmt: skip
