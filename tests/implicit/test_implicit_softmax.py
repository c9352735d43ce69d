"""Softmax by the theorem: its derivative, and the one system of equations for it that fails."""

import math
import runpy
import warnings
from pathlib import Path

import pytest
import torch

from savi.errors import InputError
from savi.implicit import kkt, root
from savi.implicit.reporter import ImplicitGradientError, ImplicitGradientWarning
from savi.implicit.softmax import (
    entropy_problem,
    report_inverse,
    report_solution,
    report_system,
    softmax,
    softmax_jacobian,
)

SCRIPT = Path(__file__).parents[2] / "scripts" / "examples" / "softmax.py"
SPREADS = [0.0, 1.0, 5.0, 20.0]


def utilities(spread: float, rows: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return spread * torch.rand(rows, 5, generator=generator, dtype=torch.float64)


def with_logsumexp(value: float) -> torch.Tensor:
    """Utilities with logsumexp(θ) = value, to rounding."""
    theta = utilities(2.0, rows=1)
    return theta - theta.logsumexp(dim=-1, keepdim=True) + value


def by_vjp(function, theta: torch.Tensor) -> torch.Tensor:
    """∂x/∂θ of every example by reverse mode."""
    theta = theta.clone().requires_grad_()
    x = function(theta)
    rows = [
        torch.autograd.grad(x[:, i].sum(), theta, retain_graph=True)[0] for i in range(x.shape[-1])
    ]
    return torch.stack(rows, dim=-2)


def by_jvp(function, theta: torch.Tensor) -> torch.Tensor:
    """∂x/∂θ of every example by forward mode."""
    columns = []
    for direction in torch.eye(theta.shape[-1], dtype=theta.dtype):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(theta, direction.expand_as(theta).clone())
            columns.append(torch.autograd.forward_ad.unpack_dual(function(dual)).tangent)
    return torch.stack(columns, dim=-1)


def by_report(theta: torch.Tensor, on_failure: str = "warn"):
    return root(report_system, report_solution(theta), theta, on_failure=on_failure)


@pytest.mark.drawn
@pytest.mark.parametrize("mode", [by_vjp, by_jvp])
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("solve", [softmax, by_report])
def test_the_theorem_gives_the_jacobian_of_softmax(solve, spread, mode):
    theta = utilities(spread)
    jacobian = mode(lambda theta: solve(theta).value[:, :5], theta)
    torch.testing.assert_close(
        jacobian, softmax_jacobian(theta.softmax(dim=-1)), rtol=0.0, atol=1e-12
    )


@pytest.mark.parametrize("spread", SPREADS)
def test_the_solution_carries_its_multiplier_and_a_certificate_without_failures(spread):
    theta = utilities(spread)
    solution = softmax(theta)
    torch.testing.assert_close(solution.value, theta.softmax(dim=-1))
    torch.testing.assert_close(
        solution.equality_multipliers.squeeze(-1), theta.logsumexp(dim=-1) - 1.0
    )
    assert not solution.certificate.failed.any()
    # The Lagrangian's Hessian is diag(1/x), positive in every direction.
    assert (solution.certificate.min_curvature > 1.0).all()


def test_the_multiplier_is_differentiable_too():
    theta = utilities(1.0).requires_grad_()
    (gradient,) = torch.autograd.grad(softmax(theta).equality_multipliers.sum(), theta)
    torch.testing.assert_close(gradient, theta.softmax(dim=-1).detach())


def test_second_derivatives_are_those_of_softmax():
    theta = utilities(3.0)
    hessians = [
        torch.autograd.functional.hessian(lambda theta, f=f: f(theta).pow(3).sum(), theta)
        for f in (lambda theta: softmax(theta).value, lambda theta: theta.softmax(dim=-1))
    ]
    torch.testing.assert_close(*hessians, rtol=1e-10, atol=1e-12)


def test_float32_is_served_to_its_precision():
    theta = utilities(5.0).float()
    jacobian = by_vjp(lambda theta: softmax(theta).value, theta)
    torch.testing.assert_close(jacobian, softmax_jacobian(theta.softmax(dim=-1)))


def test_a_spread_beyond_the_float_type_is_reported():
    theta = torch.tensor([[0.0, 1.0, 2.0], [0.0, 44.0, 45.0]], dtype=torch.float64)
    with pytest.warns(ImplicitGradientWarning, match="singular"):
        assert softmax(theta).certificate.failed.tolist() == [False, True]
    with pytest.raises(ImplicitGradientError, match="singular"):
        softmax(theta, on_failure="raise")


def test_utilities_of_a_wrong_shape_are_refused():
    with pytest.raises(InputError, match="one row per example"):
        softmax(torch.zeros(3))


@pytest.mark.parametrize("spread", SPREADS)
def test_the_report_s_system_holds_at_its_solution(spread):
    theta = utilities(spread)
    y = report_solution(theta)
    residual = report_system(y, theta)
    torch.testing.assert_close(residual, torch.zeros_like(y), rtol=0.0, atol=1e-13)
    # Its equality multiplier is minus that of the minimisation.
    torch.testing.assert_close(y[:, 5:6], -softmax(theta).equality_multipliers)


def test_the_report_s_inverse_is_one():
    theta = utilities(2.0)
    x, u = theta.softmax(dim=-1), report_solution(theta)[:, 5:6]
    assert (u.abs() > 0.1).all()
    above = torch.cat([(1.0 / x).diag_embed(), -torch.ones(3, 5, 1, dtype=x.dtype)], dim=-1)
    below = torch.cat([u.expand(3, 5), torch.zeros(3, 1, dtype=x.dtype)], dim=-1)
    matrix = torch.cat([above, below.unsqueeze(-2)], dim=-2)
    identity = torch.eye(6, dtype=x.dtype).expand(3, 6, 6)
    torch.testing.assert_close(report_inverse(x, u) @ matrix, identity)


def exactly_one() -> torch.Tensor:
    """θ = 1 for a single item: logsumexp(θ) = 1 without rounding."""
    return torch.ones(1, 1, dtype=torch.float64)


@pytest.mark.parametrize("theta", [exactly_one(), with_logsumexp(1.0), with_logsumexp(1.0 + 1e-15)])
def test_the_multiplied_feasibility_is_singular_where_its_multiplier_is_zero(theta):
    with pytest.warns(ImplicitGradientWarning, match="the Jacobian ∂F/∂x is singular"):
        certificate = by_report(theta).certificate
    assert certificate.failed.tolist() == [True]
    assert certificate.error_bound.tolist() == [math.inf]
    with pytest.raises(ImplicitGradientError, match="singular"):
        by_report(theta, on_failure="raise")


@pytest.mark.parametrize("theta", [exactly_one(), with_logsumexp(1.0), with_logsumexp(1.0 + 1e-15)])
def test_the_plain_constraint_is_right_at_the_same_utilities(theta):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jacobian = by_vjp(lambda theta: softmax(theta).value, theta)
    torch.testing.assert_close(
        jacobian, softmax_jacobian(theta.softmax(dim=-1)), rtol=0.0, atol=1e-12
    )


def test_only_the_example_at_fault_is_reported():
    theta = torch.cat([with_logsumexp(0.5), with_logsumexp(1.0), with_logsumexp(2.0)])
    with pytest.warns(ImplicitGradientWarning, match="singular"):
        jacobian = by_vjp(lambda theta: by_report(theta).value[:, :5], theta)
    with pytest.warns(ImplicitGradientWarning):
        assert by_report(theta).certificate.failed.tolist() == [False, True, False]
    true = softmax_jacobian(theta.softmax(dim=-1))
    torch.testing.assert_close(jacobian[[0, 2]], true[[0, 2]], rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9])
def test_close_to_it_the_condition_grows_and_the_error_bound_holds(distance):
    theta = with_logsumexp(1.0 + distance)
    certificate = by_report(theta).certificate
    jacobian = by_vjp(lambda theta: by_report(theta).value[:, :5], theta)
    true = softmax_jacobian(theta.softmax(dim=-1))
    error = float((jacobian - true).norm() / true.norm())
    assert not certificate.failed.any()
    assert 1.0 / distance < float(certificate.condition) < 1e4 / distance
    assert error <= float(certificate.error_bound)


def test_the_inequality_may_be_written_down_and_changes_nothing():
    theta = utilities(2.0).requires_grad_()
    plain = entropy_problem()
    both = type(plain)(plain.objective, plain.equalities, lambda x, theta: -x)
    solution = kkt(both, theta.softmax(dim=-1), theta)
    assert not solution.active.any()
    assert not solution.inequality_multipliers.any()
    cotangent = utilities(1.0)
    gradients = [
        torch.autograd.grad(x, theta, cotangent)[0] for x in (solution.value, softmax(theta).value)
    ]
    torch.testing.assert_close(*gradients)


def test_the_example_shows_the_derivative_and_the_singularity(capsys):
    runpy.run_path(str(SCRIPT))["main"]()
    shown = capsys.readouterr().out
    assert "failed False" in shown
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in shown.splitlines()
        if line.startswith("│")
    ]
    conditions, errors, bounds, plain = ([float(row[i]) for row in rows] for i in range(1, 5))
    assert [row[0] for row in rows] == ["1e+00", "1e-03", "1e-06", "1e-09", "0"]
    assert conditions == sorted(conditions)
    assert all(error < bound for error, bound in zip(errors, bounds, strict=True))
    assert max(plain) < 1e-14
    assert [row[5] for row in rows[:4]] == ["the conditions hold"] * 4
    assert "singular" in rows[4][5]
