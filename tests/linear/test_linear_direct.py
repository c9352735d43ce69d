"""The direct solvers of the exact blocks, definite or not."""

import pytest
import torch
from inner_problems import randn, spd
from symmetric_operators import operator

from savi.linear import LDL, Cholesky, LinearStatus

FLOAT64 = {"dtype": torch.float64}


@pytest.mark.parametrize("solver", [Cholesky, LDL])
class TestDirectSolver:
    def test_indefinite_block_is_solved_all_the_same(self, solver):
        matrix = torch.diag_embed(torch.tensor([[1.0, -2.0]], **FLOAT64))
        solution = solver()(operator(matrix), torch.ones(1, 2, **FLOAT64))
        torch.testing.assert_close(solution.value, torch.tensor([[1.0, -0.5]], **FLOAT64))

    def test_indefinite_blocks_and_no_others_are_reported(self, solver):
        root = randn(200, 5, 5, seed=0)
        matrix, v = root + root.mT + 4.0 * torch.eye(5), randn(200, 5, seed=1)
        smallest = torch.linalg.eigvalsh(matrix)[:, 0]
        assert 20 < (smallest < 0).sum() < 180
        solution = solver()(operator(matrix), v)
        expected = torch.where(smallest < 0, LinearStatus.INDEFINITE, LinearStatus.SOLVED)
        assert solution.status.tolist() == expected.tolist()
        assert ((solution.min_curvature < 0) == (smallest < 0)).all()
        assert (solution.residual < 1e-10).all()

    def test_min_curvature_is_sharp(self, solver):
        matrix = spd(20, 4, floor=0.01)
        smallest = torch.linalg.eigvalsh(matrix)[:, 0]
        estimate = solver(inverse_iterations=50)(operator(matrix), randn(20, 4, seed=1))
        torch.testing.assert_close(estimate.min_curvature, smallest, rtol=1e-3, atol=0)

    def test_singular_block_that_rounding_makes_definite(self, solver):
        """A rank-one block whose second pivot is a positive rounding error."""
        a = randn(200, 3, 1, seed=0)
        matrix = a @ a.mT
        passes = torch.linalg.cholesky_ex(matrix + 1e-17 * torch.eye(3)).info == 0
        assert passes.any()
        solution = solver()(operator(matrix), randn(200, 3, seed=1))
        assert (solution.status == LinearStatus.SINGULAR).all()
        assert (solution.value == 0).all()


def test_ldl_solves_with_a_pivot_of_size_two():
    swap = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], **FLOAT64)
    assert (torch.linalg.ldl_factor_ex(swap).pivots < 0).all()
    solution = LDL()(operator(swap), torch.tensor([[3.0, 4.0]], **FLOAT64))
    torch.testing.assert_close(solution.value, torch.tensor([[4.0, 3.0]], **FLOAT64))
    assert solution.status.tolist() == [LinearStatus.INDEFINITE]
    assert solution.min_curvature.item() == pytest.approx(-1.0)
