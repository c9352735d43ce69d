"""MINRES and GMRES, which also solve indefinite systems."""

from dataclasses import replace

import pytest
import torch
from inner_problems import randn, spd
from symmetric_operators import diagonally_preconditioned, operator, with_eigenvalues
from torch import Tensor

from savi.errors import InputError
from savi.linear import GMRES, MINRES, LinearStatus


def multiply(matrix: Tensor, v: Tensor) -> Tensor:
    return (matrix @ v.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize(
    ("solver", "build"),
    [
        (MINRES(rtol=1e-12), operator),
        (GMRES(rtol=1e-12), operator),
        (GMRES(rtol=1e-12), diagonally_preconditioned),
    ],
    ids=["minres", "gmres", "preconditioned gmres"],
)
class TestKrylovSolver:
    def test_indefinite_blocks_are_solved_and_they_alone_reported(self, solver, build):
        root = randn(200, 6, 6, seed=0)
        matrix, v = root + root.mT + 4.0 * torch.eye(6), randn(200, 6, seed=1)
        smallest = torch.linalg.eigvalsh(matrix)[:, 0]
        assert 20 < (smallest < 0).sum() < 180
        solution = solver(build(matrix), v)
        assert (solution.residual < 1e-11).all()
        expected = torch.where(smallest < 0, LinearStatus.INDEFINITE, LinearStatus.SOLVED)
        assert solution.status.tolist() == expected.tolist()
        assert ((solution.min_curvature < 0) == (smallest < 0)).all()
        assert (solution.min_curvature >= smallest - 1e-9).all()

    def test_vanishing_first_curvature(self, solver, build):
        """The case vᵀHv = 0, in which conjugate gradients break down."""
        swap = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
        v = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        solution = solver(build(swap), v)
        torch.testing.assert_close(solution.value, v.flip(-1))
        assert solution.status.item() == LinearStatus.INDEFINITE

    def test_singular_system_is_reported(self, solver, build):
        matrix = with_eigenvalues(torch.tensor([0.0, 0.0, 1.0, 2.0, 3.0]), 4)
        v = randn(4, 5, seed=1)
        solution = solver(build(matrix), v)
        range_part = matrix @ torch.linalg.pinv(matrix, rtol=1e-10, hermitian=True)
        least = (v - multiply(range_part, v)).norm(dim=-1) / v.norm(dim=-1)
        assert (solution.residual >= least - 1e-9).all()
        assert (solution.residual <= 1.0 + 1e-12).all()
        assert (solution.value.norm(dim=-1) < 1e4 * v.norm(dim=-1)).all()
        assert (solution.status == LinearStatus.INDEFINITE).all()
        assert (solution.min_curvature.abs() < 1e-9).all()

    def test_what_can_be_solved_of_a_singular_system_is_solved(self, solver, build):
        matrix = torch.diag_embed(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
        v = torch.tensor([[0.8, -0.6]], dtype=torch.float64)
        solution = solver(build(matrix), v)
        assert solution.residual.item() == pytest.approx(0.6)
        assert solution.value[0, 0].item() == pytest.approx(0.8)

    def test_number_of_steps_is_a_limit_across_restarts(self, solver, build):
        matrix = with_eigenvalues(torch.logspace(-4, 0, 32), 4).float()
        limited = replace(solver, max_steps=40)
        solution = limited(build(matrix), randn(4, 32, seed=1, dtype=torch.float32))
        assert (solution.steps == 40).all()
        assert (solution.status == LinearStatus.MAX_STEPS).all()

    def test_takes_at_most_p_steps_in_exact_arithmetic(self, solver, build):
        solution = solver(build(spd(6, 5)), randn(6, 5, seed=1))
        assert (solution.steps <= 5).all()

    def test_few_distinct_eigenvalues_take_few_steps(self, solver, build):
        matrix = with_eigenvalues(torch.tensor([1.0] * 5 + [4.0] * 5 + [9.0] * 5), 3)
        solution = solver(operator(matrix), randn(3, 15, seed=1))
        assert (solution.steps == 3).all()


class TestMINRES:
    matrix, v = with_eigenvalues(torch.linspace(-1.0, 3.0, 8), 5), randn(5, 8, seed=1)

    def residuals(self) -> Tensor:
        """The residual vectors [K, B, P] that 0, 1, … steps leave."""
        v = self.v / self.v.norm(dim=-1, keepdim=True)
        solve = [MINRES(max_steps=k)(operator(self.matrix), v).value for k in range(1, 8)]
        return torch.stack([v] + [v - multiply(self.matrix, u) for u in solve])

    def test_residual_never_increases(self):
        sizes = self.residuals().norm(dim=-1)
        assert (sizes.diff(dim=0) <= 1e-12).all()

    def test_curvature_is_the_smallest_along_a_residual(self):
        r = self.residuals()
        along = (r * multiply(self.matrix, r)).sum(-1) / r.square().sum(-1)
        assert (along.diff(dim=0) < 0).any()
        solution = MINRES(rtol=1e-12)(operator(self.matrix), self.v)
        torch.testing.assert_close(solution.min_curvature, along.amin(dim=0))


class TestGMRES:
    def test_restarts_until_it_has_converged(self):
        matrix, v = spd(4, 8), randn(4, 8, seed=1)
        solution = GMRES(rtol=1e-11, restart=3, max_steps=300)(operator(matrix), v)
        assert (solution.steps > 8).all()
        torch.testing.assert_close(solution.value, torch.linalg.solve(matrix, v))

    def test_stagnation_ends_the_restarts(self):
        swap = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
        v = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        solution = GMRES(restart=1, max_steps=100)(operator(swap), v)
        assert solution.steps.item() == 1
        assert solution.residual.item() == pytest.approx(1.0)
        assert solution.status.item() == LinearStatus.INDEFINITE

    def test_preconditioned_curvature_is_that_of_the_hessian(self):
        matrix = spd(6, 5, floor=0.01)
        solution = GMRES(rtol=1e-12)(diagonally_preconditioned(matrix), randn(6, 5, seed=1))
        smallest = torch.linalg.eigvalsh(matrix)[:, 0]
        # Along vectors that need not be eigenvectors of H, which bounds it from above alone.
        assert (solution.min_curvature < 4.0 * smallest).all()
        assert (solution.min_curvature >= smallest * (1 - 1e-9)).all()

    def test_bad_restart_is_refused(self):
        with pytest.raises(InputError, match=r"^restart is 0: set it to 1 or more"):
            GMRES(restart=0)
