"""How far a hypergradient is off: what a step to the minimum changes, and what is unsolved."""

import warnings

import pytest
import torch

import savi
from savi.gradients import Implicit
from savi.implicit.hypergradient import hypergradient
from savi.implicit.reporter import ImplicitGradientWarning
from savi.inner import LevenbergMarquardt

SOLVERS = ["cg", "minres", "nystrom", "cholesky"]
TOLD = "the estimated error exceeds max_error"


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def found_and_bound(inner, outer, w, h, **options):
    w, h = w.clone().requires_grad_(), h.clone().requires_grad_()
    found = hypergradient(inner(w, h), outer(w, h), [w], [h], **options)
    return found.gradients[0], found.certificate.error_bound


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_outer_loss_that_varies_on_the_way_to_the_minimum_is_told(solver):
    """½c(w − h)², judged by ½‖w − b‖² with b near w* = h: the gradient h − b, and not w − b."""
    h, c, b = tensor(1.0, 2.0), tensor(1.0, 3.0), tensor(1.05, 1.9)
    with pytest.warns(ImplicitGradientWarning, match=TOLD):
        found, bound = found_and_bound(
            lambda w, h: 0.5 * (c * (w - h).square()).sum(),
            lambda w, h: 0.5 * (w - b).square().sum(),
            h + tensor(0.02, 0.03),
            h,
            solver=solver,
        )
    error = (found - (h - b)).norm() / found.norm()
    assert 0.1 < error < bound < 4.0 * error


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_an_error_that_is_no_number_is_told_wherever_it_stands(order):
    """|wh|^1.5 has a derivative at h = 0, of which nobody knows how it changes with w."""
    w = tensor(0.5 + 1e-4, 0.5).requires_grad_()
    h = [tensor(0.5).requires_grad_(), tensor(0.0).requires_grad_()]
    inner = 0.5 * ((w[0] - h[0] - h[1]).square() + (w[1] - h[0]).square()).sum()
    outer = 0.5 * (w - 1.0).square().sum() + (w[1] * h[1]).pow(1.5).sum()
    with pytest.warns(ImplicitGradientWarning, match=TOLD):
        found = hypergradient(inner, outer, [w], [h[i] for i in order], solver="cholesky")
    assert all(torch.isfinite(gradient).all() for gradient in found.gradients)
    assert found.certificate.error_bound == float("inf")


@pytest.mark.parametrize("solver", SOLVERS)
def test_curvature_that_changes_along_a_soft_direction_is_told(solver):
    """Hu hardly changes there, and u does."""
    h = torch.zeros((), dtype=torch.float64)
    slope = tensor(1.0, 1.0)

    def inner(w, h):
        soft = 0.5 * w[1] ** 2 + 0.5 * w[1] ** 3
        return 0.5 * (w[0] - 1.0) ** 2 + 1e-3 * soft + h * (w * tensor(1.0, 1e-2)).sum()

    with pytest.warns(ImplicitGradientWarning, match=TOLD):
        found, bound = found_and_bound(
            inner, lambda w, h: (slope * w).sum(), tensor(1.0, 0.03), h, solver=solver, rtol=1e-10
        )
    exact = -(1.0 + 1e-2 / 1e-3)
    error = abs(float(found) / exact - 1.0)
    assert 0.05 < error < bound < 4.0 * error


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_damping_that_decides_a_soft_direction_is_told(solver):
    """It leaves a thousandth of the system, and half of the answer."""
    c, h = tensor(1.0, 1e-3), torch.ones((), dtype=torch.float64)
    with pytest.warns(ImplicitGradientWarning, match=TOLD):
        found, bound = found_and_bound(
            lambda w, h: 0.5 * (c * (w - h).square()).sum(),
            lambda w, h: (tensor(1.0, 1.0) * w).sum(),
            h.expand(2),
            h,
            solver=solver,
            damping=1e-3,
            rtol=1e-10,
        )
    error = 1.0 - float(found) / 2.0
    assert error == pytest.approx(0.25, rel=0.01)
    assert error < bound < 4.0 * error


def test_an_outer_loss_without_second_derivatives_leaves_the_error_unknown():
    def losses(off):
        w, h = (tensor(1.0, 1.0) + off).requires_grad_(), tensor(1.0).requires_grad_()
        implicit = savi.minimize(
            lambda y: (0.5 * (y - w).square() + 0.1 * y.pow(4)).sum(dim=-1),
            torch.zeros(1, 2, dtype=torch.float64),
            optimizer=LevenbergMarquardt(),
            gradient=Implicit(),
            rtol=1e-9,
        )
        return (w - h).square().sum(), implicit.value.sum(), [w], [h]

    with pytest.warns(ImplicitGradientWarning, match=TOLD):
        hypergradient(*losses(0.01))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hypergradient(*losses(0.0))
        hypergradient(*losses(0.01), max_error=float("inf"))


def test_parts_that_cancel_are_no_error():
    """At the best h, the direct part and the other are each other's negative."""
    w, h = tensor(1.0 + 1e-6).requires_grad_(), tensor(1.0).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = hypergradient(
            (w - h).square().sum(), (w.square().sum() - h.square().sum()), [w], [h]
        )
    assert abs(float(found.gradients[0])) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_rounding_leaves_of_a_training_is_no_error(dtype):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    t = torch.randn(30, generator=generator, dtype=torch.float64)
    exact = torch.linalg.solve(X.mT @ X + torch.eye(5).double(), X.mT @ t)
    X, t, w = X.to(dtype), t.to(dtype), exact.to(dtype).requires_grad_()
    h = torch.zeros(5, dtype=dtype, requires_grad=True)
    inner = 0.5 * (X @ w - t).square().sum() + 0.5 * (h.exp() * w.square()).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = hypergradient(inner, w.sum(), [w], [h])
    assert found.certificate.error_bound < 1e-3
