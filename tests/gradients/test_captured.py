"""Tensors that a closure uses: found, replaced, and none missed."""

import pytest
import torch
from inner_problems import gradients, randn
from torch import nn

import savi
from savi.errors import InputError
from savi.gradients import Checkpointed, FiniteDifference, Unrolled
from savi.gradients.captured import Replaced, captured_tensors
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
    with Replaced(found, doubled) as replaced:
        value = objective(y)
    replaced.leaves.append(y)
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


@pytest.mark.parametrize("backend", [Checkpointed(), FiniteDifference()])
def test_a_hidden_tensor_is_refused_and_not_forgotten(backend):
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    init = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    solution = savi.minimize(
        lambda y: Hidden.apply(y, weight).square().sum(-1), init, gradient=backend, **FEW_STEPS
    )
    with pytest.raises(InputError, match=r"does not see a tensor of shape \(2,\)"):
        solution.value.sum().backward()


@pytest.mark.parametrize("backend", [Checkpointed(), FiniteDifference()])
def test_a_change_between_solve_and_backward_is_refused(backend):
    """A buffer has no version that autograd would watch, but the steps end elsewhere."""
    model = nn.Module()
    model.register_buffer("scale", torch.tensor(1.0, dtype=torch.float64))
    theta = torch.ones(2, dtype=torch.float64, requires_grad=True)
    init = torch.ones(1, 2, dtype=torch.float64)
    solution = savi.minimize(
        lambda y: (model.scale * (y - 3.0 * theta).square()).sum(-1),
        init,
        gradient=backend,
        **FEW_STEPS,
    )
    model.scale = 2.0 * model.scale
    with pytest.raises(RuntimeError, match="the objective has changed since the solve"):
        solution.value.sum().backward()


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
