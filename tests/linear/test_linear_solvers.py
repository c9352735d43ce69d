"""What every per-example linear solver must do, and what each does of its own."""

import pytest
import torch
from inner_problems import randn, spd
from torch import Tensor

from savi.errors import InputError
from savi.linear import SOLVERS, Cholesky, ConjugateGradients, LinearStatus, SymmetricOperator
from savi.linear.base import norm


def operator(matrix: Tensor, preconditioner: Tensor | None = None) -> SymmetricOperator:
    return SymmetricOperator(
        matvec=lambda v: (matrix @ v.unsqueeze(-1)).squeeze(-1),
        dense=lambda: matrix,
        preconditioner=None if preconditioner is None else (lambda: preconditioner),
    )


def test_every_registered_solver_passes_the_conformance_tests():
    tested = {type(cls.solver) for cls in SolverConformance.__subclasses__()}
    assert tested == set(SOLVERS.values())


class SolverConformance:
    solver = None
    float32_solver = None

    def test_solves_positive_definite_blocks(self):
        matrix, v = spd(5, 4), randn(5, 4, seed=1)
        solution = self.solver(operator(matrix), v)
        torch.testing.assert_close(
            solution.value, torch.linalg.solve(matrix, v), rtol=1e-10, atol=1e-10
        )
        assert solution.status.tolist() == [LinearStatus.SOLVED] * 5
        assert (solution.residual < 1e-10).all()

    def test_residual_is_the_true_one(self):
        matrix, v = spd(5, 4), randn(5, 4, seed=1)
        solution = self.solver(operator(matrix), v)
        product = (matrix @ solution.value.unsqueeze(-1)).squeeze(-1)
        expected = (product - v).norm(dim=-1) / v.norm(dim=-1)
        torch.testing.assert_close(solution.residual, expected, rtol=0, atol=1e-12)

    def test_min_curvature_bounds_the_smallest_eigenvalue_from_above(self):
        matrix, v = spd(20, 4, floor=0.01), randn(20, 4, seed=1)
        smallest = torch.linalg.eigvalsh(matrix)[:, 0]
        curvature = self.solver(operator(matrix), v).min_curvature
        assert (curvature >= smallest * (1 - 1e-9)).all()
        assert (curvature <= torch.linalg.eigvalsh(matrix)[:, -1]).all()

    def test_examples_are_independent(self):
        matrix, v = spd(4, 3), randn(4, 3, seed=1)
        matrix[1] = torch.nan
        matrix[2] = -matrix[2]
        v[3] = 0.0
        together = self.solver(operator(matrix), v)
        for b in range(4):
            alone = self.solver(operator(matrix[b : b + 1]), v[b : b + 1])
            torch.testing.assert_close(
                alone.value[0], together.value[b], rtol=1e-12, atol=0, equal_nan=True
            )
            assert alone.status[0] == together.status[b]
            assert alone.steps[0] == together.steps[b]

    @pytest.mark.parametrize("scale", [1e-30, 1e-38, 1e30])
    def test_scale_of_a_float32_cotangent_does_not_matter(self, scale):
        matrix, v = spd(3, 4).float(), randn(3, 4, seed=1, dtype=torch.float32)
        unscaled = self.float32_solver(operator(matrix), v)
        scaled = self.float32_solver(operator(matrix), v * scale)
        torch.testing.assert_close(scaled.value / scale, unscaled.value, rtol=1e-4, atol=1e-4)
        assert (scaled.value != 0).all()
        assert (scaled.status == LinearStatus.SOLVED).all()

    def test_zero_cotangent_gives_zero(self):
        solution = self.solver(operator(spd(2, 3)), torch.zeros(2, 3, dtype=torch.float64))
        assert (solution.value == 0).all()
        assert (solution.residual == 0).all()
        assert (solution.status == LinearStatus.SOLVED).all()

    def test_non_finite_cotangent_is_not_hidden(self):
        v = randn(3, 2, seed=0)
        v[0, 0], v[1, 0] = torch.nan, torch.inf
        value = self.solver(operator(spd(3, 2)), v).value
        assert value[:2].isnan().all()
        assert value[2].isfinite().all()

    def test_indefinite_block_is_reported(self):
        matrix = torch.diag_embed(torch.tensor([[1.0, -1.0]], dtype=torch.float64))
        solution = self.solver(operator(matrix), torch.tensor([[0.3, 1.0]], dtype=torch.float64))
        assert solution.status.tolist() == [LinearStatus.INDEFINITE]
        assert solution.min_curvature.item() < 0
        assert solution.value.isfinite().all()

    @pytest.mark.parametrize(
        "matrix",
        [torch.zeros(1, 2, 2), torch.ones(1, 2, 2), torch.diag_embed(torch.tensor([[1.0, 0.0]]))],
    )
    def test_singular_block_is_reported(self, matrix):
        v = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
        solution = self.solver(operator(matrix.double()), v)
        assert solution.status.item() != LinearStatus.SOLVED
        assert solution.residual.item() > 1e-3
        assert solution.value.isfinite().all()

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
    def test_non_finite_block_is_reported(self, bad):
        matrix = spd(2, 2)
        matrix[0] = bad
        solution = self.solver(operator(matrix), randn(2, 2, seed=1))
        assert solution.status[0] != LinearStatus.SOLVED
        assert not solution.residual[0] < 1e-3
        assert solution.status[1] == LinearStatus.SOLVED

    def test_one_variable_and_no_example(self):
        matrix, v = spd(2, 1), randn(2, 1, seed=1)
        torch.testing.assert_close(self.solver(operator(matrix), v).value, v / matrix[:, 0])
        assert self.solver(operator(spd(0, 3)), randn(0, 3, seed=0)).value.shape == (0, 3)


class TestCholesky(SolverConformance):
    solver = Cholesky()
    float32_solver = Cholesky()

    def test_indefinite_block_is_solved_all_the_same(self):
        matrix = torch.diag_embed(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
        solution = self.solver(operator(matrix), torch.ones(1, 2, dtype=torch.float64))
        torch.testing.assert_close(solution.value, torch.tensor([[1.0, -0.5]], dtype=torch.float64))

    def test_min_curvature_is_sharp(self):
        matrix = spd(20, 4, floor=0.01)
        smallest = torch.linalg.eigvalsh(matrix)[:, 0]
        estimate = Cholesky(inverse_iterations=50)(operator(matrix), randn(20, 4, seed=1))
        torch.testing.assert_close(estimate.min_curvature, smallest, rtol=1e-3, atol=0)

    def test_singular_block_that_rounding_makes_definite(self):
        """A rank-one block whose second pivot is a positive rounding error."""
        a = randn(200, 3, 1, seed=0)
        matrix = a @ a.mT
        passes = torch.linalg.cholesky_ex(matrix + 1e-17 * torch.eye(3)).info == 0
        assert passes.any()
        solution = self.solver(operator(matrix), randn(200, 3, seed=1))
        assert (solution.status == LinearStatus.SINGULAR).all()

    def test_no_inverse_iteration_is_refused(self):
        with pytest.raises(InputError, match="inverse_iterations is 0"):
            Cholesky(inverse_iterations=0)


class TestConjugateGradients(SolverConformance):
    solver = ConjugateGradients(rtol=1e-13, max_steps=30)
    float32_solver = ConjugateGradients()

    def test_takes_at_most_p_steps_in_exact_arithmetic(self):
        solution = ConjugateGradients(rtol=1e-9)(operator(spd(6, 5)), randn(6, 5, seed=1))
        assert (solution.steps <= 5).all()

    def test_exact_preconditioner_takes_one_step(self):
        matrix = spd(3, 6, floor=1e-3)
        solution = ConjugateGradients(rtol=1e-9)(operator(matrix, matrix), randn(3, 6, seed=1))
        assert (solution.steps == 1).all()

    def test_unusable_preconditioner_is_not_used(self):
        matrix, v = spd(2, 3), randn(2, 3, seed=1)
        broken = torch.stack([-matrix[0], torch.full((3, 3), torch.nan, dtype=torch.float64)])
        solution = self.solver(operator(matrix, broken), v)
        torch.testing.assert_close(solution.value, torch.linalg.solve(matrix, v))

    def test_running_out_of_steps_is_reported(self):
        solution = ConjugateGradients(max_steps=1)(operator(spd(2, 5)), randn(2, 5, seed=1))
        assert (solution.status == LinearStatus.MAX_STEPS).all()
        assert (solution.residual > 1e-3).all()
        assert (solution.steps == 1).all()

    @pytest.mark.parametrize("option", [{"rtol": 0.0}, {"rtol": -1.0}, {"max_steps": 0}])
    def test_bad_options_are_refused(self, option):
        with pytest.raises(InputError, match=next(iter(option))):
            ConjugateGradients(**option)


def test_unknown_solver_lists_the_known_ones():
    with pytest.raises(InputError, match="choose one of cg, cholesky"):
        SOLVERS["nope"]


def test_norm_neither_overflows_nor_underflows():
    v = torch.tensor([[3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0]])
    torch.testing.assert_close(norm(v), torch.tensor([5e-30, 5e30, 0.0]), rtol=1e-6, atol=0)
    assert norm(torch.tensor([[torch.inf, 1.0], [torch.nan, 1.0]])).isnan().all()
