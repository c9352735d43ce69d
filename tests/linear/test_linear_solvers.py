"""What every per-example linear solver must do."""

import pytest
import torch
from inner_problems import randn, spd
from symmetric_operators import diagonally_preconditioned, operator, with_eigenvalues

from savi.errors import InputError
from savi.linear import (
    GMRES,
    LDL,
    MINRES,
    SOLVERS,
    Cholesky,
    ConjugateGradients,
    GaussNewtonSolve,
    LinearStatus,
    Neumann,
    Nystrom,
)


def test_every_registered_solver_passes_the_conformance_tests():
    tested = {type(cls.solver) for cls in SolverConformance.__subclasses__()}
    assert tested == set(SOLVERS.values())


class SolverConformance:
    solver = None
    float32_solver = None
    operator = staticmethod(operator)

    def test_solves_positive_definite_blocks(self):
        matrix, v = spd(5, 4), randn(5, 4, seed=1)
        solution = self.solver(self.operator(matrix), v)
        torch.testing.assert_close(
            solution.value, torch.linalg.solve(matrix, v), rtol=1e-10, atol=1e-10
        )
        assert solution.status.tolist() == [LinearStatus.SOLVED] * 5
        assert (solution.residual < 1e-10).all()

    def test_residual_is_the_true_one(self):
        matrix, v = spd(5, 4), randn(5, 4, seed=1)
        solution = self.solver(self.operator(matrix), v)
        product = (matrix @ solution.value.unsqueeze(-1)).squeeze(-1)
        expected = (product - v).norm(dim=-1) / v.norm(dim=-1)
        torch.testing.assert_close(solution.residual, expected, rtol=0, atol=1e-12)

    def test_min_curvature_bounds_the_smallest_eigenvalue_from_above(self):
        matrix, v = spd(20, 4, floor=0.01), randn(20, 4, seed=1)
        smallest = torch.linalg.eigvalsh(matrix)[:, 0]
        curvature = self.solver(self.operator(matrix), v).min_curvature
        assert (curvature >= smallest * (1 - 1e-9)).all()
        assert (curvature <= torch.linalg.eigvalsh(matrix)[:, -1]).all()

    def test_examples_are_independent(self):
        matrix, v = spd(4, 3), randn(4, 3, seed=1)
        matrix[1] = torch.nan
        matrix[2] = -matrix[2]
        v[3] = 0.0
        together = self.solver(self.operator(matrix), v)
        for b in range(4):
            alone = self.solver(self.operator(matrix[b : b + 1]), v[b : b + 1])
            torch.testing.assert_close(
                alone.value[0], together.value[b], rtol=1e-12, atol=0, equal_nan=True
            )
            assert alone.status[0] == together.status[b]
            assert alone.steps[0] == together.steps[b]

    def test_an_easy_example_is_frozen_beside_a_hard_one(self):
        easy, hard = (
            torch.eye(6, dtype=torch.float64),
            with_eigenvalues(torch.logspace(-1, 1, 6), 1),
        )
        v = randn(2, 6, seed=1)
        alone = self.solver(self.operator(easy[None]), v[:1])
        together = self.solver(self.operator(torch.stack([easy, hard[0]])), v)
        assert together.steps[0] == alone.steps[0]
        assert together.steps[1] > together.steps[0] or self.solver.direct
        torch.testing.assert_close(together.value[0], alone.value[0], rtol=1e-12, atol=0)

    @pytest.mark.parametrize("scale", [1e-30, 1e-38, 1e30])
    def test_scale_of_a_float32_cotangent_does_not_matter(self, scale):
        matrix, v = spd(3, 4).float(), randn(3, 4, seed=1, dtype=torch.float32)
        unscaled = self.float32_solver(self.operator(matrix), v)
        scaled = self.float32_solver(self.operator(matrix), v * scale)
        torch.testing.assert_close(scaled.value / scale, unscaled.value, rtol=1e-4, atol=1e-4)
        assert (scaled.value != 0).all()
        assert (scaled.status == LinearStatus.SOLVED).all()

    def test_zero_cotangent_gives_zero(self):
        solution = self.solver(self.operator(spd(2, 3)), torch.zeros(2, 3, dtype=torch.float64))
        assert (solution.value == 0).all()
        assert (solution.residual == 0).all()
        assert (solution.status == LinearStatus.SOLVED).all()
        assert (solution.min_curvature > 0).all()

    def test_non_finite_cotangent_is_not_hidden(self):
        v = randn(3, 2, seed=0)
        v[0, 0], v[1, 0] = torch.nan, torch.inf
        value = self.solver(self.operator(spd(3, 2)), v).value
        assert value[:2].isnan().all()
        assert value[2].isfinite().all()

    @pytest.mark.parametrize("eigenvalues", [[1.0, -1.0], [-3.0, -2.0], [0.2, -5.0]])
    def test_indefinite_block_is_reported(self, eigenvalues):
        matrix = torch.diag_embed(torch.tensor([eigenvalues], dtype=torch.float64))
        v = torch.tensor([[0.3, 1.0]], dtype=torch.float64)
        solution = self.solver(self.operator(matrix), v)
        assert solution.status.tolist() == [LinearStatus.INDEFINITE]
        assert solution.min_curvature.item() < 0
        assert solution.value.isfinite().all()

    @pytest.mark.parametrize(
        "matrix",
        [torch.zeros(1, 2, 2), torch.ones(1, 2, 2), torch.diag_embed(torch.tensor([[1.0, 0.0]]))],
    )
    def test_singular_block_is_reported(self, matrix):
        v = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
        solution = self.solver(self.operator(matrix.double()), v)
        assert solution.status.item() != LinearStatus.SOLVED
        assert solution.residual.item() > 1e-3
        assert solution.value.isfinite().all()
        assert solution.min_curvature.item() < 1e-9

    @pytest.mark.parametrize("share", [1.0, 1e-3, 0.0], ids=["all", "little", "nothing"])
    def test_rounding_does_not_decide_what_a_singular_block_gets(self, share):
        """However much of the right-hand side lies off the null space."""
        matrix = with_eigenvalues(torch.tensor([0.0, 0.0, 1.0, 2.0, 3.0]), 30)
        v = randn(30, 5, seed=1)
        null = torch.linalg.eigh(matrix).eigenvectors[..., :2]
        v_null = (null @ null.mT @ v.unsqueeze(-1)).squeeze(-1)
        v = torch.nn.functional.normalize(v_null + share * (v - v_null))
        noise = 1e-16 * randn(30, 5, 5, seed=2)
        solution = self.solver(self.operator(matrix), v)
        other = self.solver(self.operator(matrix + noise + noise.mT), v)
        assert (solution.status != LinearStatus.SOLVED).all()
        assert solution.status.tolist() == other.status.tolist()
        torch.testing.assert_close(solution.value, other.value, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(solution.residual, other.residual, rtol=0, atol=1e-9)
        # The least-squares solution has at most the norm 1; in a preconditioned Krylov space the
        # last of what can be solved may need more, but never the 10¹⁵ that rounding would give.
        assert (solution.value.norm(dim=-1) < 1e6).all()
        least = (null.mT @ v.unsqueeze(-1)).squeeze(-1).norm(dim=-1)
        assert (solution.residual >= least - 1e-9).all()
        assert (solution.residual <= 1.0 + 1e-12).all()
        assert (solution.min_curvature.abs() < 1e-9).all()

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
    def test_non_finite_block_is_reported(self, bad):
        matrix = spd(2, 2)
        matrix[0] = bad
        solution = self.solver(self.operator(matrix), randn(2, 2, seed=1))
        assert solution.status.tolist() == [LinearStatus.SINGULAR, LinearStatus.SOLVED]
        assert solution.value[0].tolist() == [0.0, 0.0]
        assert solution.residual[0] == pytest.approx(1.0)
        assert solution.min_curvature.isnan().tolist() == [True, False]

    def test_one_variable_and_no_example(self):
        matrix, v = spd(2, 1), randn(2, 1, seed=1)
        torch.testing.assert_close(self.solver(self.operator(matrix), v).value, v / matrix[:, 0])
        none = self.solver(self.operator(spd(0, 3)), randn(0, 3, seed=0))
        assert none.value.shape == (0, 3)
        assert none.status.shape == none.steps.shape == none.min_curvature.shape == (0,)

    def test_the_factor_of_a_direct_solver_is_handed_on(self):
        matrix, v, w = spd(4, 3), randn(4, 3, seed=1), randn(4, 3, seed=2)
        matrix[1], matrix[2] = torch.nan, torch.ones(3, 3)
        matrix[3] = -matrix[3]
        inverse = self.solver(self.operator(matrix), v).inverse
        assert (inverse is not None) == self.solver.direct
        if inverse is not None:
            expected = torch.zeros_like(w)
            expected[[0, 3]] = torch.linalg.solve(matrix[[0, 3]], w[[0, 3]])
            torch.testing.assert_close(inverse(w), expected)
            torch.testing.assert_close(
                inverse(w.clone() * 1e-200), expected * 1e-200, atol=0, rtol=1e-9
            )


class TestCholesky(SolverConformance):
    solver = float32_solver = Cholesky()


class TestLDL(SolverConformance):
    solver = float32_solver = LDL()


class TestGaussNewtonSolve(SolverConformance):
    solver = float32_solver = GaussNewtonSolve()
    operator = staticmethod(lambda matrix: operator(matrix, matrix))


class TestConjugateGradients(SolverConformance):
    solver, float32_solver = ConjugateGradients(rtol=1e-13, max_steps=30), ConjugateGradients()


class TestPreconditionedConjugateGradients(TestConjugateGradients):
    operator = staticmethod(diagonally_preconditioned)


class TestMINRES(SolverConformance):
    solver, float32_solver = MINRES(rtol=1e-13), MINRES()


class TestNeumann(SolverConformance):
    solver, float32_solver = Neumann(rtol=1e-13, max_steps=5000), Neumann()


class TestPreconditionedNeumann(TestNeumann):
    operator = staticmethod(diagonally_preconditioned)


class TestGMRES(SolverConformance):
    solver, float32_solver = GMRES(rtol=1e-13), GMRES()


class TestPreconditionedGMRES(TestGMRES):
    operator = staticmethod(diagonally_preconditioned)


class TestNystrom(SolverConformance):
    solver, float32_solver = Nystrom(rtol=1e-13, max_steps=30), Nystrom()


@pytest.mark.parametrize(
    "solver",
    [Cholesky(), LDL(), ConjugateGradients(max_steps=256), MINRES(), GMRES(), Nystrom()],
    ids=lambda solver: solver.name,
)
def test_float32_with_a_condition_number_of_1e4(solver):
    matrix = with_eigenvalues(torch.logspace(-4, 0, 32), 8).float()
    solution = solver(operator(matrix), randn(8, 32, seed=1, dtype=torch.float32))
    assert (solution.residual < 1e-3).all()
    assert (solution.status != LinearStatus.INDEFINITE).all()
    assert (solution.status != LinearStatus.SINGULAR).all()
    assert (solution.min_curvature > 0.9e-4).all()


@pytest.mark.parametrize("solver", [Cholesky, LDL, GaussNewtonSolve])
def test_no_inverse_iteration_is_refused(solver):
    with pytest.raises(InputError, match=r"^inverse_iterations is 0: set it to 1 or more"):
        solver(inverse_iterations=0)


def test_unknown_solver_lists_the_known_ones():
    known = "cg, cholesky, gauss_newton, gmres, ldl, minres, neumann, nystrom"
    with pytest.raises(InputError, match=f"choose one of {known}"):
        SOLVERS["nope"]
