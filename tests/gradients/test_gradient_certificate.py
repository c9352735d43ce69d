"""The certificate's figures against what they stand for."""

import warnings

import pytest
import torch
from inner_problems import Nonlinear, Quadratic, gradients, nonlinear_inputs, randn, spd

import savi
from savi.gradients import Implicit, ImplicitGradientWarning
from savi.inner import AutogradObjective, GradientDescent, LevenbergMarquardt, Momentum
from savi.inner.trust_region import TrustRegion

EXACT = {"optimizer": LevenbergMarquardt(), "max_steps": 100, "rtol": 1e-13}
LENIENT = Implicit(max_error=1e9, max_stationarity=1e9)


def relative_error(result, expected):
    return float((result - expected).norm() / expected.norm())


def test_the_error_bound_holds_and_is_not_far_off():
    """200 solves of nonlinear problems, stopped at all distances."""
    ratios = []
    for seed in range(40):
        mixing, c, init = nonlinear_inputs(batch=1, size=3, seed=10 * seed)
        w = randn(1, 3, seed=seed)
        solution = savi.minimize(Nonlinear(mixing, c), init, gradient=Implicit(), **EXACT)
        exact = gradients(solution.value, (c, mixing), w)
        for steps in (2, 4, 6, 10, 15):
            solution = savi.minimize(
                Nonlinear(mixing, c), init, optimizer=GradientDescent(0.3), gradient=LENIENT,
                max_steps=steps, rtol=0.0,
            )  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImplicitGradientWarning)
                inexact = gradients(solution.value, (c, mixing), w)
            bound = float(solution.certificate.error_bound)
            error = max(map(relative_error, inexact, exact))
            if bound < 1.0:
                ratios.append(error / bound)
    assert len(ratios) > 100
    assert max(ratios) < 1.0
    assert sorted(ratios)[len(ratios) // 2] > 0.1


def test_the_error_bound_of_a_biased_solver_holds():
    """u = C⁻¹v with C = 2H is off by a half; for H and C proportional the bound is sharp."""

    class Scaled(AutogradObjective):
        gauss_newton = True

        def curvature(self, y, create_graph=False):
            return 2.0 * super().curvature(y, create_graph)

    c = randn(2, 3, seed=1).requires_grad_()
    hessian = 1.7 * torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    solution = savi.minimize(
        Scaled(Quadratic(hessian, c)), torch.zeros_like(c), gradient=Implicit("gauss_newton"),
        **{**EXACT, "rtol": 1e-10},
    )  # fmt: skip
    w = randn(2, 3, seed=2)
    with pytest.warns(ImplicitGradientWarning, match="Gauss–Newton matrix is not the Hessian"):
        (biased,) = gradients(solution.value, (c,), w)
    torch.testing.assert_close(biased, 0.5 * torch.linalg.solve(hessian, w))
    assert (solution.certificate.error_bound >= 0.5).all()
    assert solution.certificate.failed.all()


def test_gauss_newton_without_such_a_matrix_is_refused():
    with pytest.raises(savi.InputError, match="has no Gauss–Newton matrix"):
        savi.minimize(
            Quadratic(spd(1, 1), randn(1, 1, seed=0)), torch.zeros(1, 1).double(),
            gradient=Implicit("gauss_newton"), **EXACT,
        )  # fmt: skip


@pytest.mark.parametrize("offset", [0.0, 1e-9])
def test_a_warm_start_at_the_solution_does_not_fail(offset):
    """Relative to λ0's, the gradient cannot get smaller there; the bound knows the distance."""
    c = randn(2, 3, seed=1).requires_grad_()
    problem = Quadratic(spd(2, 3), c)
    init = problem.minimiser.detach() + offset
    solution = savi.minimize(
        problem, init, optimizer=Momentum(1e-3), gradient=Implicit(on_failure="raise"), max_steps=1
    )
    (by_c,) = gradients(solution.value, (c,), randn(2, 3, seed=2))
    torch.testing.assert_close(by_c, torch.linalg.solve(spd(2, 3), randn(2, 3, seed=2)))


def test_a_solution_at_zero_does_not_fail():
    c = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    init = randn(2, 3, seed=0)
    solution = savi.minimize(
        Quadratic(spd(2, 3), c), init, optimizer=GradientDescent(0.2), max_steps=200, rtol=1e-6,
        gradient=Implicit(on_failure="raise"),
    )  # fmt: skip
    solution.value.sum().backward()
    assert (solution.certificate.error_bound < 1e-3).all()


def test_examples_that_need_no_gradient_do_not_fail():
    c = randn(2, 3, seed=1).requires_grad_()
    solution = savi.minimize(
        Quadratic(spd(2, 3), c), torch.zeros_like(c), optimizer=GradientDescent(1e-6), max_steps=1,
        gradient=Implicit(),
    )  # fmt: skip
    with pytest.warns(ImplicitGradientWarning, match="not solved"):
        solution.value[0].sum().backward()
    assert solution.certificate.failed.tolist() == [True, False]


def test_inaccuracy_is_told_apart_from_failure():
    mixing, c, init = nonlinear_inputs()
    solution = savi.minimize(
        Nonlinear(mixing, c), init, optimizer=GradientDescent(0.3), max_steps=8, rtol=0.0,
        gradient=Implicit(on_failure="mask", max_error=1e-9),
    )  # fmt: skip
    with pytest.warns(ImplicitGradientWarning, match="exceeds max_error"):
        by_c = torch.autograd.grad(solution.value.sum(), c)[0]
    certificate = solution.certificate
    assert not certificate.failed.any()
    assert certificate.inaccurate.all()
    assert (by_c != 0).all()
    assert certificate.metrics()["ift/failures"] == 0.0


def test_a_constraint_that_is_only_just_active_fails():
    """J = ½‖y − c‖² with ‖c‖ = r: λ* = c follows c inwards and is held back outwards."""
    c = torch.tensor([[0.6, 0.8]], dtype=torch.float64, requires_grad=True)
    anchor = torch.zeros_like(c)
    base = AutogradObjective(lambda y: 0.5 * (y - c).square().sum(-1))
    solution = savi.minimize(
        TrustRegion(base, anchor, 1.0), anchor, gradient=Implicit(), **{**EXACT, "rtol": 1e-9}
    )
    with pytest.warns(ImplicitGradientWarning, match="only just active"):
        solution.value.sum().backward()
    assert solution.certificate.degenerate.all()


def test_metrics_of_a_batch_that_failed_throughout_hold_no_bound():
    c = randn(2, 3, seed=1).requires_grad_()
    solution = savi.minimize(
        Quadratic(spd(2, 3), c), torch.zeros_like(c), optimizer=GradientDescent(1e-6), max_steps=1,
        gradient=Implicit(on_failure="mask"),
    )  # fmt: skip
    solution.value.sum().backward()
    metrics = solution.certificate.metrics()
    assert metrics["ift/failures"] == 1.0
    assert "ift/error_bound" not in metrics


def silent_and_error(objective, init, exact, theta, **options):
    """Whether the default certificate says nothing, and the relative error of dλ/dθ."""
    options = {"optimizer": GradientDescent(0.01), "max_steps": 3000} | options
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        solution = savi.minimize(objective, init, gradient=Implicit(), **options)
        (result,) = torch.autograd.grad(solution.value[:, -1].sum(), theta)
    return not told, abs(float(result) - exact) / max(abs(exact), 1e-12)


def test_a_soft_coordinate_beside_a_large_stiff_one_is_seen():
    """The stationarity falls by 1000 while y₂ has hardly moved: λK is close in the norm only."""
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def objective(y):
        stiff, soft = y.unbind(-1)
        return (
            50.0 * (stiff - 1000.0).square()
            + 0.5 * (soft - 1.0).square()
            + 0.5 * theta.exp() * soft.square()
        )

    init = torch.zeros(1, 2, dtype=torch.float64)
    silent, error = silent_and_error(objective, init, -0.25, theta)
    assert error > 0.1
    assert not silent


def test_curvature_that_changes_across_the_way_to_the_solution_is_seen():
    """H₂₂ = exp(30 y₁) changes as y₁ goes home, which F along the way does not show."""
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def objective(y):
        first, second = y.unbind(-1)
        curvature = (30.0 * first).exp()
        return 0.5 * (first - 1e-3).square() + 0.5 * curvature * second.square() - theta * second

    init = torch.tensor([[-1e-3, 0.0]], dtype=torch.float64)
    silent, error = silent_and_error(
        objective, init, torch.tensor(-0.03).exp().item(), theta, max_steps=0
    )
    assert error > 0.02
    assert not silent


def test_a_constraint_between_the_iterate_and_the_solution_is_seen():
    c = torch.full((1, 1), 1000.0, dtype=torch.float64, requires_grad=True)
    anchor = torch.zeros_like(c)
    base = AutogradObjective(lambda y: 0.5 * (y - c).square().sum(-1))
    silent, error = silent_and_error(
        TrustRegion(base, anchor, 999.9), anchor, 0.0, c, optimizer=GradientDescent(0.5)
    )
    assert error > 0.5
    assert not silent


@pytest.mark.parametrize("solver", ["cg", "minres", "gmres", "neumann", "nystrom"])
def test_negative_curvature_that_the_cotangent_does_not_touch_is_seen(solver):
    """A saddle at y = 0 that a start at 0 never leaves."""
    theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    solution = savi.minimize(
        lambda y: 0.5 * (y[:, 0] - theta).square() - 0.5 * y[:, 1].square(),
        torch.zeros(1, 2, dtype=torch.float64),
        optimizer=GradientDescent(0.3),
        gradient=Implicit(solver, on_failure="mask"),
        max_steps=200,
        rtol=1e-8,
    )
    solution.value[:, 0].sum().backward()
    assert solution.certificate.failed.all()
    assert any("not positive definite" in reason for reason in solution.certificate.reasons)
    assert solution.certificate.min_curvature.item() < 0


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_unit_of_the_variables_raises_no_alarm(scale, dtype):
    mixing, c, init = (t.detach().to(dtype) for t in nonlinear_inputs())
    c.requires_grad_()
    base = Nonlinear(mixing, c)
    solution = savi.minimize(
        lambda y: base(y / scale), scale * init, optimizer=LevenbergMarquardt(),
        gradient=Implicit(on_failure="raise"), rtol=1e-4,
    )  # fmt: skip
    solution.value.sum().backward()
    assert c.grad.isfinite().all()
