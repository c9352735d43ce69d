"""The Neumann series and its safeguards."""

import pytest
import torch
from inner_problems import randn, spd
from symmetric_operators import operator, with_eigenvalues

from savi.errors import InputError
from savi.linear import LinearStatus, Neumann
from savi.linear.base import irregular


def hidden_eigenvalue() -> torch.Tensor:
    """I + 100 qqᵀ with a q that the power iteration starts orthogonal to."""
    start = irregular(torch.zeros(1, 4, dtype=torch.float64))[0]
    q = torch.stack([start[1], -start[0], 0 * start[0], 0 * start[0]])
    q = q / q.norm()
    return torch.eye(4, dtype=torch.float64) + 100.0 * torch.outer(q, q)


def test_partial_sums_in_closed_form():
    """For one variable λ_max is exact, so that 1 − ηH = −½."""
    hessian = torch.tensor([[[4.0]], [[0.1]]], dtype=torch.float64)
    v = torch.tensor([[1.0], [-3.0]], dtype=torch.float64)
    for k in range(1, 5):
        solution = Neumann(max_steps=k)(operator(hessian), v)
        torch.testing.assert_close(solution.value, (1 - (-0.5) ** k) * v / hessian[:, 0])


def test_step_is_safe_where_the_largest_eigenvalue_is_underestimated():
    matrix = torch.stack([hidden_eigenvalue(), torch.eye(4, dtype=torch.float64)])
    v = randn(2, 4, seed=1)
    solution = Neumann(power_iterations=1, rtol=1e-10, max_steps=5000)(operator(matrix), v)
    torch.testing.assert_close(solution.value, torch.linalg.solve(matrix, v))
    assert (solution.status == LinearStatus.SOLVED).all()
    # The neighbour keeps its own, longer steps.
    assert solution.steps[1] < 40 < solution.steps[0]


def test_condition_number_of_a_thousand():
    matrix, v = with_eigenvalues(torch.logspace(-3, 0, 4), 3), randn(3, 4, seed=1)
    solution = Neumann(rtol=1e-4, max_steps=10000)(operator(matrix), v)
    torch.testing.assert_close(solution.value, torch.linalg.solve(matrix, v), rtol=1e-2, atol=1e-2)
    assert (solution.residual <= 1.01e-4).all()
    assert (solution.status == LinearStatus.SOLVED).all()
    short = Neumann()(operator(matrix), v)
    assert (short.status == LinearStatus.MAX_STEPS).all()
    assert (short.steps == 500).all()


def test_preconditioner_removes_the_condition_number():
    matrix, v = with_eigenvalues(torch.logspace(-4, 2, 6), 3), randn(3, 6, seed=1)
    solution = Neumann()(operator(matrix, 1.3 * matrix), v)
    assert (solution.status == LinearStatus.SOLVED).all()
    assert (solution.steps < 25).all()
    torch.testing.assert_close(solution.value, torch.linalg.solve(matrix, v), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gauss_newton", [None, spd(50, 5, seed=3)])
def test_indefinite_system_never_diverges(gauss_newton):
    root = randn(50, 5, 5, seed=0)
    matrix, v = root + root.mT + 2.0 * torch.eye(5), randn(50, 5, seed=1)
    indefinite = torch.linalg.eigvalsh(matrix)[:, 0] < 0
    assert indefinite.sum() > 10
    solution = Neumann()(operator(matrix, gauss_newton), v)
    assert (solution.residual <= 1.0 + 1e-12).all()
    assert (solution.status[indefinite] == LinearStatus.INDEFINITE).all()
    assert (solution.min_curvature[indefinite] <= 0).all()
    assert (solution.status[~indefinite] != LinearStatus.INDEFINITE).all()


def test_bad_number_of_power_iterations_is_refused():
    with pytest.raises(InputError, match=r"^power_iterations is 0: set it to 1 or more"):
        Neumann(power_iterations=0)
