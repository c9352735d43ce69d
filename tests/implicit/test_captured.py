"""Tensors that a closure uses: found, replaced, and none missed."""

import warnings

import pytest
import torch
from inner_problems import gradients, randn
from torch import nn

import savi
from savi.errors import InputError
from savi.gradients import (
    Checkpointed,
    FiniteDifference,
    Implicit,
    ImplicitGradientWarning,
    Reversible,
    Truncated,
    Unrolled,
)
from savi.implicit.captured import Replaced, captured_tensors
from savi.inner import Momentum

FEW_STEPS = {"optimizer": Momentum(0.05, 0.5), "max_steps": 4, "rtol": 0.0}


@pytest.fixture
def leaves():
    torch.manual_seed(0)
    network = nn.Linear(2, 3).double()
    theta, unused = randn(2, seed=1).requires_grad_(), randn(2, seed=2).requires_grad_()
    return network, theta, unused


def make(network, theta):
    """An objective that reaches tensors in every way that is common."""
    derived, constant = theta.exp(), randn(2, seed=3)

    def objective(y):
        def tangent(e):
            return torch.func.jvp(network, (y,), (e.expand_as(y),))[1]

        jacobian = torch.func.vmap(tangent, out_dims=1)(torch.eye(2, dtype=y.dtype))
        stacked = torch.stack([derived, constant])
        terms = [
            network(y).tanh().sum(-1),
            jacobian.square().sum((-1, -2)),
            (y * derived).sum(-1),
            theta[0] * y[:, 0].square(),
            (y @ stacked.mT).square().sum(-1),
            y.square().sum(-1),
        ]
        return torch.stack(terms).sum(0)

    return objective, derived


def test_finds_what_is_used_and_nothing_else(leaves):
    network, theta, _unused = leaves
    objective, derived = make(network, theta)
    y = randn(3, 2, seed=4).requires_grad_()
    found = captured_tensors(lambda: objective(y), own=(y,))
    expected = [network.weight, network.bias, derived, theta]
    assert {id(tensor) for tensor in found} == {id(tensor) for tensor in expected}


def test_replacements_are_used_in_their_place(leaves):
    network, theta, _ = leaves
    objective, _ = make(network, theta)
    y = randn(3, 2, seed=4).requires_grad_()
    found = captured_tensors(lambda: objective(y), own=(y,))
    doubled = [(2.0 * tensor.detach()).requires_grad_() for tensor in found]
    with Replaced(found, doubled, (y,)) as replaced:
        value = objective(y)
    replaced.refuse_hidden_tensors("checkpointed", (value,))
    assert all(g is not None for g in torch.autograd.grad(value.sum(), doubled, retain_graph=True))
    unreached = torch.autograd.grad(value.sum(), [theta, *network.parameters()], allow_unused=True)
    assert unreached == (None, None, None)
    with torch.no_grad():
        for tensor in [theta, *network.parameters()]:
            tensor.mul_(2.0)
    # The objective closes over exp(θ), not over the new θ alone.
    assert not torch.allclose(value, make(network, theta)[0](y))


@pytest.mark.parametrize("backend", [Checkpointed(), Checkpointed("step"), FiniteDifference()])
def test_gradients_reach_everything_that_is_captured(leaves, backend):
    network, theta, unused = leaves

    def pulled(gradient):
        objective, _ = make(network, theta)
        init = torch.ones(3, 2, dtype=torch.float64)
        value = savi.minimize(objective, init, gradient=gradient, **FEW_STEPS).value
        return gradients(value, (theta, *network.parameters(), unused), randn(3, 2, seed=5))

    torch.testing.assert_close(pulled(backend), pulled(Unrolled()), rtol=1e-6, atol=1e-8)
    assert (pulled(backend)[-1] == 0).all()


class Hidden(torch.autograd.Function):
    """Takes a tensor where no torch function sees it."""

    @staticmethod
    def forward(y, weight):
        return weight * y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, v):
        y, weight = ctx.saved_tensors
        return weight * v, (y * v).sum(0)


RECOMPUTING = [Checkpointed(), FiniteDifference(), Reversible(), Implicit(on_failure="fallback")]
WEIGHT = torch.ones(2, dtype=torch.float64, requires_grad=True)


def per_example(weight, y):
    return (weight * y).square().sum(-1)


def total(weight, y):
    return per_example(weight, y).sum()


HIDDEN = {
    "custom function": lambda y: Hidden.apply(y, WEIGHT).square().sum(-1),
    "handed back": lambda y: Hidden.apply(y, WEIGHT.to(y)).square().sum(-1),
    "torch.func.grad": lambda y: (
        torch.func.grad(lambda w: per_example(w, y).sum())(WEIGHT).sum() * y[:, 0]
    ),
    "vmap": lambda y: torch.func.vmap(per_example, in_dims=(None, 0))(WEIGHT, y),
}


@pytest.mark.parametrize("objective", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("backend", RECOMPUTING, ids=lambda backend: backend.name)
@pytest.mark.parametrize("start_needs_gradient", [False, True])
def test_a_hidden_tensor_is_refused_or_found(backend, objective, start_needs_gradient):
    """Also where the caller asks for the gradient of another term that holds it."""
    init = torch.ones(1, 2, dtype=torch.float64, requires_grad=start_needs_gradient)

    def pulled(gradient):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImplicitGradientWarning)
            value = savi.minimize(objective, init, gradient=gradient, **FEW_STEPS).value
            return torch.autograd.grad(value.sum() + WEIGHT.square().sum(), WEIGHT)[0]

    expected = pulled(Unrolled())
    try:
        result = pulled(backend)
    except InputError:
        return
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("backend", [Checkpointed(), Reversible()])
def test_a_tensor_that_later_steps_use_is_refused_or_found(backend):
    theta = torch.ones(1, dtype=torch.float64, requires_grad=True)

    def objective(y):
        weight = theta if bool((y < 0.9).all()) else 1.0
        return (weight * y.square()).sum(-1)

    def pulled(gradient):
        init = torch.ones(1, 1, dtype=torch.float64)
        value = savi.minimize(objective, init, gradient=gradient, **FEW_STEPS).value
        return torch.autograd.grad(value.sum() + theta.square().sum(), theta)[0]

    torch.testing.assert_close(pulled(backend), pulled(Unrolled()), rtol=1e-6, atol=1e-8)


def test_leaves_that_an_objective_makes_are_its_own():
    def objective(y):
        scale = torch.ones(2, dtype=y.dtype)
        scale.requires_grad = True
        shift = torch.zeros(2, dtype=y.dtype).requires_grad_()
        return (y * scale + shift).square().sum(-1)

    init = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    value = savi.minimize(objective, init, gradient=Checkpointed(), **FEW_STEPS).value
    (g,) = torch.autograd.grad(value.sum(), init)
    assert g.isfinite().all()


def test_forward_mode_is_refused():
    with torch.autograd.forward_ad.dual_level():
        theta = torch.autograd.forward_ad.make_dual(torch.ones(2), torch.ones(2))
        with pytest.raises(InputError, match="forward-mode differentiation"):
            savi.minimize(
                lambda y: (y - theta).square().sum(-1), torch.zeros(1, 2), gradient=Checkpointed(),
                **FEW_STEPS,
            )  # fmt: skip


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize(
    "backend", [Checkpointed(), FiniteDifference(), Implicit(on_failure="fallback")]
)
def test_a_change_between_solve_and_backward_is_refused(backend, offset):
    """A buffer has no version that autograd would watch, but the steps end elsewhere."""
    model = nn.Module()
    model.register_buffer("scale", torch.tensor(1.0, dtype=torch.float64))
    theta = torch.ones(2, dtype=torch.float64, requires_grad=True)
    init = torch.ones(1, 2, dtype=torch.float64) + offset
    solution = savi.minimize(
        lambda y: (model.scale * (y - offset - 3.0 * theta).square()).sum(-1),
        init,
        gradient=backend,
        **FEW_STEPS,
    )
    model.scale = 2.0 * model.scale
    with pytest.raises(RuntimeError, match="the objective has changed since the solve"):
        solution.value.sum().backward()


def test_truncated_steps_that_differ_are_refused():
    """As dropout without a fixed mask would make them."""
    calls = iter(range(100))
    theta = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="the objective has changed since the solve"):
        savi.minimize(
            lambda y: (y - theta * (3.0 + 0.1 * (next(calls) % 3))).square().sum(-1),
            torch.zeros(1, 2, dtype=torch.float64),
            gradient=Truncated(10),
            **FEW_STEPS,
        )


def test_a_parameter_changed_in_place_is_refused():
    theta = torch.ones(2, dtype=torch.float64, requires_grad=True)
    solution = savi.minimize(
        lambda y: (y - theta).square().sum(-1),
        torch.zeros(1, 2, dtype=torch.float64),
        gradient=Checkpointed(),
        **FEW_STEPS,
    )
    with torch.no_grad():
        theta.add_(1e-9)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        solution.value.sum().backward()
