"""What ``minimize`` checks as ``root`` does: kinks in θ, mixed rows, a moving ∂F/∂θ, another F."""

import warnings

import pytest
import torch
from inner_problems import Quadratic, randn, spd

import savi
from savi.gradients import Implicit, ImplicitGradientWarning
from savi.inner import GradientDescent, LevenbergMarquardt

EXACT = {"optimizer": LevenbergMarquardt(), "max_steps": 60, "rtol": 1e-10}


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_a_kink_in_a_parameter_fails(solver):
    """λ* = max(θ, 0), which has no derivative at θ = 0 although J is a quadratic in λ."""
    theta = torch.tensor([[0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    solution = savi.minimize(
        lambda y: 0.5 * (y - theta.relu()).square().sum(-1),
        torch.full((2, 1), 3.0, dtype=torch.float64),
        gradient=Implicit(solver),
        **EXACT,
    )
    with pytest.warns(ImplicitGradientWarning, match="jumps or bends"):
        solution.value.sum().backward()
    assert solution.certificate.failed.tolist() == [True, False]
    assert solution.certificate.smooth


def test_kinks_before_the_objective_are_none_of_its_own():
    """The relu of an encoder, at its kink, computes the target."""
    theta = torch.tensor([[0.0]], dtype=torch.float64, requires_grad=True)
    target = theta.relu()
    solution = savi.minimize(
        lambda y: 0.5 * (y - target).square().sum(-1),
        torch.full((1, 1), 3.0, dtype=torch.float64),
        gradient=Implicit(on_failure="raise"),
        **EXACT,
    )
    solution.value.sum().backward()
    assert not solution.certificate.failed.any()


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_rows_that_are_mixed_fail_although_all_move_alike(solver):
    """Every row has the same Hessian and cotangent, and a fifth of its gradient from the next."""
    c = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)

    def mixed(y):
        return 0.5 * (y - c).square().sum(-1) + 0.1 * (y * y.roll(1, 0)).sum(-1)

    solution = savi.minimize(mixed, torch.zeros_like(c), gradient=Implicit(solver), **EXACT)
    with pytest.warns(ImplicitGradientWarning, match="rows that are mixed"):
        solution.value.sum().backward()
    assert solution.certificate.failed.all()


def test_strong_curvature_that_is_no_kink_does_not_fail():
    theta = torch.full((3, 1), 0.5, dtype=torch.float64, requires_grad=True)
    solution = savi.minimize(
        lambda y: ((10.0 * y).exp() / 10.0 - theta * y).sum(-1),
        torch.zeros(3, 1, dtype=torch.float64),
        gradient=Implicit(on_failure="raise"),
        **EXACT,
    )
    solution.value.sum().backward()
    torch.testing.assert_close(theta.grad, 0.1 / theta.detach(), rtol=1e-6, atol=0)


def test_an_effect_of_a_parameter_that_varies_faster_than_the_objective_is_told():
    """∂F/∂t = sin(10⁴ λ), and λ is off by 1e-4 although F is small."""
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    solution = savi.minimize(
        lambda y: (0.5 * (y - 1.0).square() - t * (1e4 * y).cos() / 1e4).sum(-1),
        torch.tensor([[1.0001]], dtype=torch.float64),
        optimizer=LevenbergMarquardt(),
        max_steps=0,
        gradient=Implicit(max_stationarity=10.0),
    )
    with pytest.warns(ImplicitGradientWarning, match="exceeds max_error"):
        (g,) = torch.autograd.grad(solution.value.sum(), t)
    exact = -torch.tensor(1e4, dtype=torch.float64).sin()
    assert abs(float(g / exact) - 1.0) > 0.1
    assert solution.certificate.inaccurate.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("omega", [30.0, 1000.0])
def test_a_parameter_that_enters_faster_than_the_solution_is_told(omega, dtype):
    """θ sin(ωλ) at θ = 0: λK is right to 1e-3 and ∂F/∂θ, ω cos(ωλ), is not."""
    theta = torch.zeros((), dtype=dtype, requires_grad=True)
    a = torch.tensor([[0.7], [1.3]], dtype=dtype)

    def objective(y):
        return (0.5 * (y - a) ** 2 + 0.25 * (y - a) ** 4 + theta * (omega * y).sin()).sum(-1)

    solution = savi.minimize(
        objective,
        torch.zeros_like(a),
        optimizer=GradientDescent(0.3),
        gradient=Implicit(),
        max_steps=100,
        rtol=1e-3,
    )
    with pytest.warns(ImplicitGradientWarning, match="exceeds max_error"):
        (g,) = torch.autograd.grad(solution.value.sum(), theta)
    exact = -omega * (omega * a).cos().sum()
    error = abs(float(g - exact))
    assert error > 0.3 * abs(float(exact))
    assert (error <= solution.certificate.error_bound * max(abs(float(g)), abs(float(exact)))).all()


def test_a_parameter_that_acts_along_a_small_component_of_the_adjoint_is_told():
    """The cotangent is 1,000 times smaller along the one coordinate that θ moves."""
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    cotangent = torch.tensor([1.0, 1e-3], dtype=torch.float64)

    def gradient(rtol):
        def objective(y):
            r = y - 0.5
            slow = 0.05 * r[:, 1] ** 2 - 0.1 * r[:, 1] ** 3
            return 0.5 * r[:, 0] ** 2 + slow + theta * y[:, 1]

        solution = savi.minimize(
            objective,
            torch.zeros(1, 2, dtype=torch.float64),
            optimizer=GradientDescent(0.9),
            gradient=Implicit(),
            max_steps=2000,
            rtol=rtol,
        )
        (g,) = torch.autograd.grad((solution.value * cotangent).sum(), theta)
        return float(g), solution.certificate

    with pytest.warns(ImplicitGradientWarning, match="exceeds max_error"):
        rough, certificate = gradient(2e-2)
    exact, sure = gradient(1e-12)
    error = abs(rough / exact - 1.0)
    assert 0.05 < error <= float(certificate.error_bound)
    assert not sure.inaccurate.any()
    assert sure.error_bound <= 1e-6


def test_examples_whose_gradients_cancel_are_not_called_inaccurate():
    """θ of four examples, whose sum is 0 but for what is left to the solution."""
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    a = torch.tensor([[0.5], [-0.5], [1.0], [-1.0]], dtype=torch.float64)
    solution = savi.minimize(
        lambda y: (0.5 * (y - a) ** 2 + 0.05 * (y - a) ** 4 - theta * y.square()).sum(-1),
        torch.tensor([[0.0], [0.1], [0.2], [0.3]], dtype=torch.float64),
        optimizer=GradientDescent(0.5),
        gradient=Implicit(),
        max_steps=100,
        rtol=1e-4,
    )
    torch.autograd.grad(solution.value.sum(), theta)
    assert not solution.certificate.inaccurate.any()
    assert not solution.certificate.failed.any()


def test_an_objective_that_is_another_one_at_the_backward_is_refused():
    c, scale = randn(3, 2, seed=1).requires_grad_(), [1.0]
    quadratic = Quadratic(spd(3, 2), c)
    solution = savi.minimize(
        lambda y: scale[0] * quadratic(y) + (scale[0] - 1.0) * y.sum(-1),
        torch.zeros_like(c),
        gradient=Implicit(),
        **EXACT,
    )
    scale[0] = 3.0
    with pytest.raises(RuntimeError, match="the objective has changed since the solve"):
        solution.value.sum().backward()


def test_without_a_certificate_the_gradient_is_the_same():
    results = []
    for certify in (True, False):
        c = randn(3, 2, seed=1).requires_grad_()
        solution = savi.minimize(
            Quadratic(spd(3, 2), c),
            torch.zeros_like(c),
            gradient=Implicit(certify=certify),
            **EXACT,
        )
        assert (solution.certificate is None) == (not certify)
        solution.value.sum().backward()
        results.append(c.grad)
    assert torch.equal(*results)


def test_a_policy_without_a_certificate_is_refused():
    with pytest.raises(savi.InputError, match="set certify=True"):
        Implicit(on_failure="mask", certify=False)


def test_a_certificate_has_the_attributes_of_both_of_its_parts():
    c = randn(2, 2, seed=1).requires_grad_()
    solution = savi.minimize(
        Quadratic(spd(2, 2), c), torch.zeros_like(c), gradient=Implicit(), **EXACT
    )
    certificate = solution.certificate
    assert certificate.stationarity is solution.stationarity
    assert certificate.failed is None
    assert certificate.error_bound is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution.value.sum().backward()
    assert certificate.failed is certificate.verdict.failed
    with pytest.raises(AttributeError, match="no 'nonsense'"):
        _ = certificate.nonsense
