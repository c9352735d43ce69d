"""The implicit function theorem: closed forms, orders of error, and every failure reported."""

import warnings

import pytest
import torch
from closed_forms import proximal_jacobian
from inner_problems import Nonlinear, Quadratic, gradients, nonlinear_inputs, randn, slope, spd

import savi
from savi.errors import InputError
from savi.gradients import (
    EncoderGradient,
    Implicit,
    ImplicitGradientError,
    ImplicitGradientWarning,
    StopGradient,
    Unrolled,
)
from savi.inner import AutogradObjective, GradientDescent, InnerObjective, LevenbergMarquardt
from savi.inner.anchored import Proximal
from savi.linear import Cholesky

EXACT = {"optimizer": LevenbergMarquardt(), "max_steps": 60, "rtol": 1e-12}


@pytest.mark.parametrize("gradient", [Implicit(), Implicit("cg", rtol=1e-13), Unrolled()])
@pytest.mark.parametrize("rho", [0.1, 1.0, 30.0])
def test_proximal_jacobian(gradient, rho):
    hessian, init = spd(3, 4), randn(3, 4, seed=2).requires_grad_()
    base, w = Quadratic(hessian, randn(3, 4, seed=1)), randn(3, 4, seed=3)
    problem = Proximal(AutogradObjective(base), init, rho)
    solution = savi.minimize(problem, init, gradient=gradient, **EXACT)
    (result,) = gradients(solution.value, (init,), w)
    expected = (proximal_jacobian(hessian, rho) @ w.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)
    assert gradient.encoder_gradient_for(anchored=True, max_steps=5) is EncoderGradient.EXACT


def test_proximal_without_unrolling_or_theorem_sends_nothing():
    init = randn(2, 2, seed=0).requires_grad_()
    problem = Proximal(AutogradObjective(Quadratic(spd(2, 2), randn(2, 2, seed=1))), init, 1.0)
    assert not savi.minimize(problem, init, gradient=StopGradient(), **EXACT).value.requires_grad
    assert StopGradient().encoder_gradient_for(anchored=True, max_steps=5) is EncoderGradient.ZERO
    assert Implicit().encoder_gradient_for(anchored=False, max_steps=5) is EncoderGradient.ZERO


@pytest.mark.parametrize("rho", [0.0, -1.0, float("nan"), float("inf")])
def test_proximal_refuses_a_bad_weight(rho):
    with pytest.raises(InputError, match=r"^rho is "):
        Proximal(AutogradObjective(lambda y: y.sum(-1)), torch.zeros(1, 1), rho)


def test_error_is_second_order_in_stationarity_and_first_order_without_the_correction():
    """φ = J: at a distance ε the direct θ-gradient errs by O(ε), the corrected one by O(ε²)."""
    mixing, c, init = nonlinear_inputs()

    def theta_gradient(gradient, steps, optimizer):
        solution = savi.minimize(
            Nonlinear(mixing, c), init, optimizer=optimizer, gradient=gradient, max_steps=steps,
            rtol=1e-13,
        )  # fmt: skip
        loss = Nonlinear(mixing, c)(solution.value).sum()
        return torch.autograd.grad(loss, mixing)[0], float(solution.stationarity.max())

    exact, _ = theta_gradient(StopGradient(), 60, LevenbergMarquardt())
    for gradient, order in (
        (StopGradient(), 1.0),
        (Implicit(max_stationarity=10.0, max_error=1e9), 2.0),
    ):
        distances, errors = [], []
        for steps in (6, 8, 10, 12, 14):
            result, stationarity = theta_gradient(gradient, steps, GradientDescent(0.3))
            distances.append(stationarity)
            errors.append(float((result - exact).norm()))
        assert slope(distances, errors) == pytest.approx(order, abs=0.2)


def diagonal(*eigenvalues):
    return torch.diag_embed(torch.tensor([eigenvalues], dtype=torch.float64))


def start_at(y, hessian, theta, **options):
    """No step is taken: the derivative is requested at y itself."""
    return savi.minimize(
        Quadratic(hessian, theta), y, optimizer=GradientDescent(), max_steps=0, **options
    )


FAILURES = {
    "singular or not finite": diagonal(1.0, 0.0),
    "not positive definite": diagonal(1.0, -2.0),
}


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
@pytest.mark.parametrize("hessian", FAILURES.values(), ids=FAILURES)
class TestBrokenCurvature:
    def pull_back(self, hessian, solver, on_failure):
        hessian = torch.cat([hessian, torch.eye(2, dtype=torch.float64)[None]])
        theta = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
        gradient = Implicit(solver=solver, on_failure=on_failure)
        solution = start_at(torch.zeros_like(theta).detach(), hessian, theta, gradient=gradient)
        cotangent = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
        return gradients(solution.value, (theta,), cotangent)[0], solution.certificate

    def test_warn(self, hessian, solver):
        with pytest.warns(ImplicitGradientWarning, match="without its conditions"):
            result, certificate = self.pull_back(hessian, solver, "warn")
        assert result.isfinite().all()
        assert certificate.failed.tolist() == [True, False]
        assert certificate.metrics()["ift/failures"] == 0.5
        torch.testing.assert_close(result[1], result.new_tensor([3.0, 4.0]))

    def test_raise(self, hessian, solver):
        with pytest.raises(ImplicitGradientError, match="1 examples"):
            self.pull_back(hessian, solver, "raise")

    def test_mask(self, hessian, solver):
        result, certificate = self.pull_back(hessian, solver, "mask")
        assert (result[0] == 0).all()
        torch.testing.assert_close(result[1], result.new_tensor([3.0, 4.0]))
        assert certificate.failed.tolist() == [True, False]


@pytest.mark.parametrize("reason", FAILURES)
def test_exact_solver_names_the_failure(reason):
    theta = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    solution = start_at(theta.detach(), FAILURES[reason], theta, gradient=Implicit())
    with pytest.warns(ImplicitGradientWarning, match=reason):
        solution.value.sum().backward()


def test_unsolved_inner_problem_is_reported():
    inputs = nonlinear_inputs()
    solution = savi.minimize(
        Nonlinear(*inputs[:2]), inputs[2], optimizer=GradientDescent(1e-4), gradient=Implicit(),
        max_steps=2,
    )  # fmt: skip
    with pytest.warns(ImplicitGradientWarning, match=r"inner problem is not solved \(raise"):
        solution.value.sum().backward()
    assert solution.certificate.failed.all()


def test_unsolved_linear_system_is_reported():
    c = randn(2, 5, seed=1).requires_grad_()
    solution = savi.minimize(
        Quadratic(spd(2, 5), c), torch.zeros_like(c), gradient=Implicit("cg", max_steps=1), **EXACT
    )
    with pytest.warns(ImplicitGradientWarning, match="linear solver did not converge"):
        solution.value.backward(randn(2, 5, seed=2))


def test_non_finite_example_is_reported_and_leaves_its_neighbour_alone():
    c = randn(2, 2, seed=0)
    c[0] = torch.nan
    c.requires_grad_()
    init = torch.zeros(2, 2, dtype=torch.float64)
    solution = savi.minimize(Quadratic(spd(2, 2), c), init, gradient=Implicit(), **EXACT)
    assert solution.status.tolist() == [savi.Status.DIVERGED, savi.Status.CONVERGED]
    assert solution.stationarity[0].isnan()
    with pytest.warns(ImplicitGradientWarning):
        solution.value.sum().backward()
    assert solution.certificate.failed.tolist() == [True, False]
    torch.testing.assert_close(
        c.grad[1], torch.linalg.solve(spd(2, 2)[1], torch.ones(2, dtype=torch.float64))
    )


def test_linear_objective_has_no_curvature_and_says_so():
    c = randn(1, 2, seed=0).requires_grad_()
    init = torch.zeros(1, 2, dtype=torch.float64)
    solution = start_at(init, torch.zeros(1, 2, 2, dtype=torch.float64), c, gradient=Implicit())
    with pytest.warns(ImplicitGradientWarning) as told:
        solution.value.sum().backward()
    assert any("singular" in str(warning.message) for warning in told)
    assert (c.grad == 0).all()


def test_certificate_is_filled_by_the_backward():
    c = randn(3, 2, seed=1).requires_grad_()
    hessian = spd(3, 2)
    solution = savi.minimize(
        Quadratic(hessian, c), torch.zeros_like(c), gradient=Implicit(on_failure="raise"), **EXACT
    )
    certificate = solution.certificate
    assert not certificate.complete
    assert certificate.metrics() == {}
    solution.value.sum().backward()
    assert certificate.complete
    assert not certificate.failed.any()
    assert certificate.reasons == []
    metrics = certificate.metrics()
    assert set(metrics) == {
        "ift/min_curvature", "ift/linear_residual", "ift/linear_steps", "ift/failures",
        "ift/error_bound",
    }  # fmt: skip
    smallest = float(torch.linalg.eigvalsh(hessian).min())
    assert metrics["ift/min_curvature"] == pytest.approx(smallest, rel=0.05)
    assert metrics["ift/linear_residual"] < 1e-12


def test_empty_batch_has_no_metrics():
    c = randn(0, 2, seed=1).requires_grad_()
    solution = savi.minimize(Quadratic(spd(0, 2), c), c.detach(), gradient=Implicit(), **EXACT)
    solution.value.sum().backward()
    assert solution.certificate.metrics() == {}


def test_stochastic_objective_is_refused():
    class Redrawn(InnerObjective):
        stochastic = True

        def __call__(self, y):
            return y.square().sum(-1)

    with pytest.raises(InputError, match="no stationary point"):
        savi.minimize(
            Redrawn(), torch.zeros(1, 1), optimizer=GradientDescent(), gradient=Implicit()
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "nope"}, "^unknown solver 'nope': choose one of cg, cholesky"),
        (
            {"on_failure": "nope"},
            "^unknown on_failure 'nope': choose one of damp, fallback, mask, raise, warn",
        ),
        ({"max_stationarity": 0.0}, "^max_stationarity is 0"),
        ({"rtol": 0.0}, "^rtol is 0"),
        ({"solver": "cholesky", "rtol": -1.0}, "^rtol is -1"),
        ({"solver": "cholesky", "max_steps": 0}, "^max_steps is 0"),
        ({"solver": "cholesky", "max_steps": 9}, "direct solver without steps"),
        ({"max_error": 0.0}, "^max_error is 0"),
        ({"solver": "cg", "max_steps": 0}, "^max_steps is 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Implicit(**options)


def test_a_solver_of_ones_own():
    class Mine(Cholesky):
        name = "mine"
        used = 0

        def solve(self, operator, rhs):
            type(self).used += 1
            return super().solve(operator, rhs)

    c = randn(2, 2, seed=1).requires_grad_()
    solution = savi.minimize(
        Quadratic(spd(2, 2), c), torch.zeros_like(c), gradient=Implicit(solver=Mine()), **EXACT
    )
    solution.value.sum().backward()
    assert Mine.used == 1


def test_gauss_newton_matrix_preconditions_the_exact_hessian():
    """A preconditioner changes the steps, never the answer."""
    hessian, c = spd(3, 6, floor=1e-3), randn(3, 6, seed=1).requires_grad_()

    class WithCurvature(InnerObjective):
        gauss_newton = True

        def __call__(self, y):
            return Quadratic(hessian, c)(y)

        def curvature(self, y, create_graph=False):
            return hessian + 0.01 * torch.eye(6, dtype=y.dtype)

    w = randn(3, 6, seed=2)
    results, steps = [], []
    for objective in (WithCurvature(), Quadratic(hessian, c)):
        solution = savi.minimize(
            objective,
            torch.zeros_like(c),
            gradient=Implicit("cg", rtol=1e-12, max_steps=60),
            **EXACT,
        )
        results.append(gradients(solution.value, (c,), w)[0])
        steps.append(int(solution.certificate.linear_steps.max()))
    expected = torch.linalg.solve(hessian, w)
    torch.testing.assert_close(results, [expected, expected], rtol=1e-8, atol=1e-8)
    assert (steps[0] < steps[1]) or max(steps) <= 6


def test_adjoint_solve_ignores_an_autocast_around_the_backward():
    c = randn(3, 8, seed=1, dtype=torch.float32).requires_grad_()
    solution = savi.minimize(
        Quadratic(spd(3, 8).float(), c),
        torch.zeros_like(c),
        gradient=Implicit(),
        optimizer=LevenbergMarquardt(),
        rtol=1e-5,
    )
    with torch.autocast("cpu", torch.bfloat16):
        solution.value.sum().backward()
    assert (solution.certificate.linear_residual < 1e-5).all()
    assert (solution.certificate.min_curvature > 0).all()


def test_diverging_neighbour_does_not_reach_a_shared_parameter():
    """The diverged example is differentiated at its best iterate, where all is finite."""
    theta = torch.tensor([0.7, 0.7], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([1.0, 1e200], dtype=torch.float64)

    def objective(y):
        return scale * (y.squeeze(-1) - theta[0]).square()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplicitGradientWarning)
        solution = savi.minimize(
            objective, torch.zeros(2, 1, dtype=torch.float64), optimizer=GradientDescent(0.1),
            gradient=Implicit(on_failure="mask"), max_steps=200, rtol=1e-10,
        )  # fmt: skip
        (g,) = torch.autograd.grad(solution.value.sum(), theta)
    assert solution.status.tolist() == [savi.Status.CONVERGED, savi.Status.DIVERGED]
    torch.testing.assert_close(g, theta.new_tensor([1.0, 0.0]))
