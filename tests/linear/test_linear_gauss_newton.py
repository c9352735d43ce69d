"""The biased solve with the Gauss–Newton matrix."""

import pytest
import torch
from inner_problems import randn, spd
from symmetric_operators import operator

from savi.errors import InputError
from savi.linear import SOLVERS, GaussNewtonSolve, LinearStatus


def test_solution_and_residual_in_closed_form():
    hessian, gauss_newton, v = spd(4, 3), spd(4, 3, seed=7), randn(4, 3, seed=1)
    solution = GaussNewtonSolve()(operator(hessian, gauss_newton), v)
    u = torch.linalg.solve(gauss_newton, v)
    torch.testing.assert_close(solution.value, u)
    missing = ((hessian - gauss_newton) @ u.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(solution.residual, missing.norm(dim=-1) / v.norm(dim=-1))
    assert (solution.residual > 0.01).all()
    assert (solution.status == LinearStatus.SOLVED).all()


def test_relative_error_of_one_variable():
    hessian, gauss_newton = torch.tensor([[[3.0]]]), torch.tensor([[[2.0]]])
    solution = GaussNewtonSolve()(operator(hessian, gauss_newton), torch.ones(1, 1))
    assert solution.value.item() / (1 / 3) - 1 == pytest.approx((3 - 2) / 2)
    assert solution.residual.item() == pytest.approx((3 - 2) / 2)


def test_it_alone_is_biased_and_needs_the_matrix():
    assert {name for name, solver in SOLVERS.items() if solver.biased} == {"gauss_newton"}
    assert {name for name, solver in SOLVERS.items() if solver.needs_gauss_newton} == {
        "gauss_newton"
    }


def test_objective_without_a_gauss_newton_matrix_is_refused():
    with pytest.raises(InputError, match="needs an objective with a Gauss-Newton matrix"):
        GaussNewtonSolve()(operator(spd(1, 2)), torch.ones(1, 2, dtype=torch.float64))


def test_negative_curvature_of_the_hessian_is_reported():
    hessian = torch.diag_embed(torch.tensor([[1.0, -2.0], [1.0, 1.0]]))
    identity = torch.eye(2).repeat(2, 1, 1)
    solution = GaussNewtonSolve()(operator(hessian, identity), torch.tensor([[1.0, 1.0]] * 2))
    assert solution.status.tolist() == [LinearStatus.INDEFINITE, LinearStatus.SOLVED]
    torch.testing.assert_close(solution.min_curvature, torch.tensor([-0.5, 1.0]))
    torch.testing.assert_close(solution.value, torch.ones(2, 2))


def test_gauss_newton_matrix_that_is_not_definite_is_reported():
    broken = torch.stack([-torch.eye(2), torch.zeros(2, 2), torch.full((2, 2), torch.nan)])
    solution = GaussNewtonSolve()(operator(torch.eye(2).repeat(3, 1, 1), broken), torch.ones(3, 2))
    assert solution.status.tolist() == [
        LinearStatus.INDEFINITE,
        LinearStatus.SINGULAR,
        LinearStatus.SINGULAR,
    ]
    assert solution.value.isfinite().all()
    torch.testing.assert_close(solution.residual, torch.tensor([2.0, 1.0, 1.0]))


def test_hessian_that_is_not_finite_is_reported():
    hessian = torch.full((1, 2, 2), torch.nan)
    solution = GaussNewtonSolve()(operator(hessian, torch.eye(2)[None]), torch.ones(1, 2))
    assert solution.status.tolist() == [LinearStatus.SINGULAR]
    assert solution.value.tolist() == solution.inverse(torch.ones(1, 2)).tolist() == [[0.0, 0.0]]
