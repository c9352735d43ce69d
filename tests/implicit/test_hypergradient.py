"""Hypergradients against closed forms, finite differences of retrained weights, and each other."""

import math
import warnings

import pytest
import torch

from savi.errors import InputError
from savi.implicit.hypergradient import hypergradient
from savi.implicit.reporter import (
    ImplicitGradientError,
    ImplicitGradientWarning,
    SmoothnessNote,
)
from savi.linear import SOLVERS, ConjugateGradients, LinearStatus, Neumann, Nystrom

ITERATIVE = ("cg", "minres", "gmres", "neumann", "nystrom")
DIRECT = ("cholesky", "ldl")


class Ridge:
    """min_w ½‖Xw − y‖² + ½ Σ_i e^{h_i} w_i², judged by ½‖X'w − y'‖² + e^{h_0}/10."""

    def __init__(self, features: int = 4):
        generator = torch.Generator().manual_seed(0)
        draw = torch.randn(20, 2 * features + 2, generator=generator, dtype=torch.float64)
        self.X, self.X_val = draw[:, :features], draw[:, features : 2 * features]
        self.y, self.y_val = draw[:, -2], draw[:, -1]
        self.h = torch.linspace(-1.0, 1.0, features, dtype=torch.float64, requires_grad=True)

    def solution(self, h):
        return torch.linalg.solve(self.X.mT @ self.X + torch.diag(h.exp()), self.X.mT @ self.y)

    def weights(self):
        """The minimiser, as two tensors."""
        w = self.solution(self.h).detach()
        return [w[:1].clone().requires_grad_(), w[1:].reshape(-1, 1).clone().requires_grad_()]

    def inner(self, weights, h):
        w = torch.cat([part.reshape(-1) for part in weights])
        return 0.5 * (self.X @ w - self.y).square().sum() + 0.5 * (h.exp() * w.square()).sum()

    def outer(self, weights, h):
        w = torch.cat([part.reshape(-1) for part in weights])
        return 0.5 * (self.X_val @ w - self.y_val).square().sum() + 0.1 * h[0].exp()

    def losses(self, weights):
        return self.inner(weights, self.h), self.outer(weights, self.h)

    def exact(self):
        """By differentiating the closed form."""
        return torch.autograd.grad(self.outer([self.solution(self.h)], self.h), self.h)[0]


@pytest.fixture(scope="module")
def ridge():
    return Ridge()


def taken(ridge, weights=None, **options):
    weights = ridge.weights() if weights is None else weights
    return hypergradient(*ridge.losses(weights), weights, [ridge.h], **options)


def test_every_solver_is_tested():
    assert {*ITERATIVE, *DIRECT, "gauss_newton"} == set(SOLVERS)


@pytest.mark.parametrize("solver", [*ITERATIVE, *DIRECT])
def test_ridge_regression_in_closed_form(ridge, solver):
    found = taken(ridge, solver=solver, rtol=1e-10, max_steps=2000)
    torch.testing.assert_close(found.gradients[0], ridge.exact(), rtol=1e-7, atol=1e-9)
    assert not found.gradients[0].requires_grad
    torch.testing.assert_close(found.direct[0][1:], torch.zeros(3, dtype=torch.float64))
    certificate = found.certificate
    assert not certificate.failed
    assert certificate.status == LinearStatus.SOLVED
    assert certificate.stationarity < 1e-12
    assert certificate.linear_residual < 1e-9
    assert certificate.kinks == certificate.unmoved == ()
    smallest = torch.linalg.eigvalsh(ridge.X.mT @ ridge.X + torch.diag(ridge.h.exp()))[0]
    # From above, as the directions that were tried can only tell.
    assert smallest * (1 - 1e-9) <= certificate.min_curvature < 20 * smallest
    assert (certificate.linear_steps == 0) == (solver in DIRECT)


@pytest.mark.parametrize(
    "solver", [ConjugateGradients(rtol=1e-10), Nystrom(rtol=1e-10, rank=2), Neumann(rtol=1e-10)]
)
def test_a_solver_may_be_given_itself(ridge, solver):
    torch.testing.assert_close(taken(ridge, solver=solver).gradients[0], ridge.exact())


def test_logistic_regression_by_retraining():
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(2, 30, 3, generator=generator, dtype=torch.float64)
    t = (X[..., 0] + torch.randn(2, 30, generator=generator, dtype=torch.float64) > 0).double()

    def loss(w, split):
        return torch.nn.functional.binary_cross_entropy_with_logits(X[split] @ w, t[split])

    def inner(w, h):
        return loss(w, 0) + 0.5 * h.exp() * w.square().sum()

    def trained(h):
        w = torch.zeros(3, dtype=torch.float64)
        for _ in range(20):  # Newton's method
            gradient = torch.func.grad(inner)(w, h)
            w = w - torch.linalg.solve(torch.func.hessian(inner)(w, h), gradient)
        return w.requires_grad_()

    h = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    w = trained(h.detach())
    step = 1e-5
    ahead, behind = (float(loss(trained(h.detach() + s), 1).detach()) for s in (step, -step))
    expected = (ahead - behind) / (2 * step)
    for solver in (*ITERATIVE, *DIRECT):
        found = hypergradient(inner(w, h), loss(w, 1), [w], [h], solver=solver, rtol=1e-10)
        assert float(found.gradients[0]) == pytest.approx(expected, rel=1e-6)
        assert float(found.direct[0]) == 0.0


def test_graphs_are_kept_and_gradients_left_alone(ridge):
    weights = ridge.weights()
    inner, outer = ridge.losses(weights)
    first = hypergradient(inner, outer, weights, [ridge.h], solver="cholesky")
    again = hypergradient(inner, outer, weights, [ridge.h], solver="cholesky")
    torch.testing.assert_close(first.gradients[0], again.gradients[0], rtol=0, atol=0)
    assert weights[0].grad is None
    assert ridge.h.grad is None
    with torch.no_grad():
        there = hypergradient(inner, outer, weights, [ridge.h], solver="cholesky")
    torch.testing.assert_close(there.gradients[0], first.gradients[0], rtol=0, atol=0)


def test_the_shift_of_outer_is_that_of_a_newton_step(ridge):
    weights = ridge.weights()
    best = float(ridge.outer(weights, ridge.h).detach())
    with torch.no_grad():
        weights[0] += 1e-5
    found = taken(ridge, weights, solver="cholesky")
    moved = best - float(ridge.outer(weights, ridge.h).detach())
    assert found.certificate.outer_shift == pytest.approx(moved, rel=1e-3)
    assert 0 < found.certificate.relative_stationarity < 1e-4


def test_relative_stationarity_is_that_to_a_start_at_zero(ridge):
    weights = [torch.full((1,), 0.3, dtype=torch.float64, requires_grad=True),
               torch.full((3, 1), -0.2, dtype=torch.float64, requires_grad=True)]  # fmt: skip
    zero = [torch.zeros_like(w, requires_grad=True) for w in weights]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplicitGradientWarning)
        certificate = taken(ridge, weights, solver="cholesky").certificate
    at, start = (
        torch.cat([g.reshape(-1) for g in torch.autograd.grad(ridge.inner(w, ridge.h), w)])
        for w in (weights, zero)
    )
    assert certificate.stationarity == pytest.approx(float(at.norm()))
    expected = float(at.norm() / (at - start).norm())
    assert certificate.relative_stationarity == pytest.approx(expected)


def test_weights_that_are_not_trained_are_reported(ridge):
    weights = ridge.weights()
    with torch.no_grad():
        weights[1] += 1.0
    with pytest.warns(ImplicitGradientWarning, match="no stationary point"):
        assert taken(ridge, weights).certificate.failed
    with pytest.raises(ImplicitGradientError, match="no stationary point"):
        taken(ridge, weights, on_failure="raise")
    assert taken(ridge, weights, on_failure="silent").certificate.failed
    lenient = {"max_stationarity": 10.0, "max_error": math.inf}
    assert not taken(ridge, weights, **lenient).certificate.failed


def test_an_answer_that_changes_on_the_way_to_the_minimum_is_told():
    """inner = (w − 1)²/2 + h w³ at h = 0: ∂F/∂h = 3w² changes by about 2ε on the way ε to 1."""
    h = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bounds = []
    for offset in (1e-3, 1e-1):
        w = torch.tensor([1.0 + offset], dtype=torch.float64, requires_grad=True)
        inner, outer = 0.5 * (w - 1.0).square().sum() + h * (w**3).sum(), w.sum()
        options = {"solver": "cholesky", "max_stationarity": 1.0}
        if offset < 1e-2:
            found = hypergradient(inner, outer, [w], [h], **options)
        else:
            with pytest.warns(ImplicitGradientWarning, match="exceeds max_error"):
                found = hypergradient(inner, outer, [w], [h], **options)
        assert not found.certificate.failed
        error = abs(float(found.gradients[0]) / -3.0 - 1.0)
        assert error < found.certificate.error_bound < 4.0 * error
        bounds.append(found.certificate.error_bound)
        lenient = hypergradient(inner, outer, [w], [h], **options, max_error=math.inf)
        assert lenient.certificate.error_bound == 0.0
    assert bounds[0] < 1e-2 < bounds[1]


def quadratic(curvatures, slope=1.0):
    """Losses at w = 0, a stationary point of ½ Σ c_i w_i² + h Σ w_i for h = 0."""
    c = torch.tensor(curvatures, dtype=torch.float64)
    w = torch.zeros(len(c), dtype=torch.float64, requires_grad=True)
    h = torch.zeros((), dtype=torch.float64, requires_grad=True)
    return 0.5 * (c * w.square()).sum() + h * w.sum(), slope * w.sum(), [w], [h]


@pytest.mark.parametrize("solver", [*ITERATIVE, *DIRECT])
def test_an_indefinite_hessian_is_reported(solver):
    losses = quadratic([2.0, 1.0, -0.5])
    with pytest.warns(ImplicitGradientWarning, match="not positive definite"):
        found = hypergradient(*losses, solver=solver)
    assert found.certificate.status == LinearStatus.INDEFINITE
    assert found.certificate.min_curvature <= 0.0
    # Damping of more than 0.5 makes it definite, and is reported as the bias that it is.
    with pytest.warns(ImplicitGradientWarning, match="more than half of the system"):
        damped = hypergradient(*losses, solver=solver, damping=1.0, rtol=1e-8, max_steps=500)
    assert not damped.certificate.failed
    assert float(damped.gradients[0]) == pytest.approx(-(1 / 3 + 1 / 2 + 2), rel=1e-6)
    u = torch.tensor([1 / 3, 1 / 2, 2.0])
    assert damped.certificate.damping_residual == pytest.approx(float(u.norm() / 3**0.5), rel=1e-5)
    assert damped.certificate.min_curvature >= -0.5 - 1e-6
    hidden = "negative curvature that the damping hides" in "".join(damped.certificate.biases)
    assert hidden == (damped.certificate.min_curvature < 0)


@pytest.mark.parametrize("solver", [*ITERATIVE, *DIRECT])
def test_a_singular_hessian_is_reported(solver):
    with pytest.warns(ImplicitGradientWarning, match="singular|not positive definite|not solved"):
        found = hypergradient(*quadratic([2.0, 1.0, 0.0]), solver=solver)
    assert found.certificate.failed
    assert bool(torch.isfinite(found.gradients[0]))


def test_a_series_that_is_cut_short_is_reported_and_biased_towards_the_direct_part():
    losses = quadratic([1.0, 0.01])
    exact = -101.0
    found = []
    for steps in (5, 50):
        with pytest.warns(ImplicitGradientWarning, match="not solved"):
            found.append(
                float(hypergradient(*losses, solver="neumann", max_steps=steps).gradients[0])
            )
    assert exact < found[1] < found[0] < 0.0
    # K steps of size η = 1.5/λ_max leave a direction of curvature c with 1 − (1 − ηc)^K of 1/c.
    assert found[0] == pytest.approx(-(1 + 100 * (1 - 0.985**5)), rel=0.05)


def test_a_hyperparameter_that_inner_does_not_use(ridge):
    weights = ridge.weights()
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    inner, outer = ridge.losses(weights)
    with pytest.warns(ImplicitGradientWarning, match=r"does not depend on hyper\[1\]"):
        found = hypergradient(inner, scale * outer, weights, [ridge.h, scale], solver="cholesky")
    assert found.certificate.unmoved == (1,)
    torch.testing.assert_close(found.gradients[1], outer.detach())
    torch.testing.assert_close(found.gradients[0], 2.0 * ridge.exact())


def test_kinks_are_noted():
    w = torch.tensor([0.5, 1.0], dtype=torch.float64, requires_grad=True)
    h = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    inner = 0.5 * (torch.relu(2.0 * w) - torch.tensor([1.0, 2.0]) + h).square().sum()
    with pytest.warns(SmoothnessNote, match="relu"):
        found = hypergradient(inner, w.sum(), [w], [h])
    assert float(found.gradients[0]) == pytest.approx(-1.0)


def test_float32(ridge):
    w = [part.detach().float().requires_grad_() for part in ridge.weights()]
    small = Ridge()
    for name in ("X", "X_val", "y", "y_val"):
        setattr(small, name, getattr(small, name).float())
    h = ridge.h.detach().float().requires_grad_()
    found = hypergradient(small.inner(w, h), small.outer(w, h), w, [h], solver="cg", rtol=1e-5)
    torch.testing.assert_close(found.gradients[0], ridge.exact().float(), rtol=1e-3, atol=1e-4)


REFUSED = [
    ({"solver": "foo"}, "unknown solver 'foo'"),
    ({"solver": "gauss_newton"}, "needs a Gauss–Newton matrix"),
    ({"damping": -1.0}, "damping is -1.0: set it to 0 or more"),
    ({"on_failure": "mask"}, "unknown on_failure 'mask': choose one of raise, silent, warn"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_options_that_cannot_be_used(ridge, options, message):
    with pytest.raises(InputError, match=message):
        taken(ridge, **options)


def test_losses_that_cannot_be_used(ridge):
    weights = ridge.weights()
    inner, outer = ridge.losses(weights)
    other = torch.ones(2, dtype=torch.float64, requires_grad=True)
    for arguments, message in (
        ((inner.detach(), outer, weights, [ridge.h]), r"inner has shape \(\) and no graph"),
        ((inner, other * outer, weights, [ridge.h]), r"outer has shape \(2,\) and a graph"),
        ((inner, outer, [], [ridge.h]), "weights is no list"),
        ((inner, outer, weights, ridge.h), "hyper is no list"),
        ((inner, outer, weights, [ridge.h.detach()]), r"hyper\[0\] does not require grad"),
        ((inner, outer, [other], [ridge.h]), "inner depends on none of the weights"),
        ((inner, other.sum(), weights, [ridge.h]), "outer depends on none of the weights"),
        ((inner, outer, weights, [ridge.h, other]), r"hyper\[1\] is used by neither"),
        ((inner, outer, [*weights, other.float()], [ridge.h]), "weights have the types"),
    ):
        with pytest.raises(InputError, match=message):
            hypergradient(*arguments)


@pytest.mark.parametrize("solver", ["cg", "minres", "gmres", "neumann", "nystrom", "cholesky"])
def test_a_saddle_that_the_cotangent_does_not_meet_is_reported(solver):
    """½(w₀ − h)² − ½w₁², judged by w₀ alone."""
    w = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    h = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    inner = 0.5 * (w[0] - h) ** 2 - 0.5 * w[1] ** 2
    with pytest.warns(ImplicitGradientWarning, match="not positive definite"):
        found = hypergradient(inner, w[0], [w], [h], solver=solver)
    assert found.certificate.failed


@pytest.mark.parametrize("damping", [1.0, 10.0, 1000.0])
def test_the_bias_of_a_damping_is_estimated_and_told(damping):
    w = torch.ones(2, dtype=torch.float64, requires_grad=True)
    h = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    curvature = torch.tensor([10.0, 22.0], dtype=torch.float64)
    inner = (curvature * (w - h) ** 2 / 2).sum()
    with pytest.warns(ImplicitGradientWarning, match="the estimated error exceeds max_error"):
        found = hypergradient(inner, w.sum(), [w], [h], damping=damping)
    error = abs(float(found.gradients[0]) - 2.0) / 2.0
    assert error == pytest.approx(float((damping / (curvature + damping)).mean()))
    assert error <= 1.2 * found.certificate.error_bound
