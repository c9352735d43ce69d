"""Direct solvers that begin with blocks of a few digits."""

from dataclasses import replace

import pytest
import torch
from inner_problems import randn, spd
from symmetric_operators import operator, with_eigenvalues
from torch import Tensor

from savi.linear import LDL, Cholesky, LinearStatus, SymmetricOperator
from savi.linear.base import Rough

ENOUGH = torch.finfo(torch.float64).eps ** 0.5


def rounded(matrix: Tensor, size: float, asked: list[Tensor]) -> SymmetricOperator:
    """Blocks with a relative error of that size; every call for exact ones is noted."""
    noise = size * matrix * (1.0 + randn(*matrix.shape, seed=7)).clamp(-2.0, 2.0)
    exact = operator(matrix)

    def some(index: Tensor) -> Tensor:
        asked.append(index)
        return matrix[index]

    def dense() -> Tensor:
        asked.append(torch.arange(len(matrix)))
        return matrix

    found = Rough(matrix + 0.5 * (noise + noise.mT), exact.matvec, some, torch.zeros(()))
    return replace(exact, dense=dense, rough=lambda: found)


@pytest.mark.parametrize("solver", [Cholesky(), LDL()])
@pytest.mark.parametrize("indefinite", [False, True])
def test_refinement_has_the_digits_of_the_products(solver, indefinite):
    matrix, v, asked = spd(20, 6), randn(20, 6, seed=1), []
    if indefinite:
        matrix = matrix - 2.0 * torch.linalg.eigvalsh(matrix).mean() * torch.eye(6).double()
    solution, exact = solver(rounded(matrix, 1e-6, asked), v), solver(operator(matrix), v)
    assert not asked
    assert (solution.residual <= ENOUGH).all()
    left = (matrix @ solution.value.unsqueeze(-1)).squeeze(-1) - v
    torch.testing.assert_close(solution.residual, left.norm(dim=-1) / v.norm(dim=-1))
    assert (solution.status == exact.status).all()
    torch.testing.assert_close(solution.value, exact.value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(solution.min_curvature, exact.min_curvature, rtol=1e-3, atol=0)
    w = randn(20, 6, seed=2)
    assert solution.inverse is not None
    assert exact.inverse is not None
    torch.testing.assert_close(solution.inverse(w), exact.inverse(w), rtol=1e-5, atol=1e-7)


def test_only_blocks_that_refinement_does_not_mend_are_computed_exactly():
    matrix, v, asked = spd(20, 6), randn(20, 6, seed=1), []
    matrix[[3, 8]] = with_eigenvalues(torch.logspace(-7, 0, 6), 2)
    solution = Cholesky()(rounded(matrix, 1e-6, asked), v)
    assert [index.tolist() for index in asked] == [[3, 8]]
    assert (solution.residual <= ENOUGH).all()
    assert (solution.status == LinearStatus.SOLVED).all()


def test_blocks_that_are_far_off_are_not_used():
    matrix, v, asked = spd(20, 6), randn(20, 6, seed=1), []
    solution = Cholesky()(rounded(matrix, 0.5, asked), v)
    assert asked[-1].tolist() == [*range(20)]
    torch.testing.assert_close(solution.value, torch.linalg.solve(matrix, v.unsqueeze(-1))[..., 0])


@pytest.mark.parametrize("broken", [float("nan"), 0.0])
def test_a_broken_block_is_reported_as_ever(broken: float):
    matrix, v, asked = spd(4, 3), randn(4, 3, seed=1), []
    matrix[2] = broken
    solution = Cholesky()(rounded(matrix, 1e-9, asked), v)
    assert (solution.status == LinearStatus.SINGULAR).tolist() == [False, False, True, False]
    assert (solution.value[2] == 0).all()
