"""Kinks: in the graph of the objective, and at the solution."""

import pytest
import torch
from inner_problems import randn
from torch import nn
from torch.nn.functional import elu, gelu, hardtanh, leaky_relu, relu, silu, softplus

import savi
from savi.gradients import Implicit, ImplicitGradientWarning, SmoothnessNote
from savi.implicit.smoothness import kinked_operations
from savi.inner import AutogradObjective, GradientDescent, LevenbergMarquardt

ACTIVATIONS = {
    relu: "relu",
    leaky_relu: "leakyrelu",
    elu: "elu",
    hardtanh: "hardtanh",
    torch.abs: "abs",
    nn.PReLU().double(): "prelukernel",
    (lambda t: t.clamp(min=0.0)): "clamp",
    (lambda t: torch.maximum(t, -t)): "maximum",
    (lambda t: t.amax(-1, keepdim=True)): "amax",
    (lambda t: t.sort(-1).values): "sort",
}


def linearized(activation):
    encoder = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).double()
    anchor = encoder(randn(3, 2, seed=0))
    network = nn.Linear(2, 4).double()
    objective = AutogradObjective(
        lambda y: activation(network(y)).square().sum(-1) + (y - anchor).square().sum(-1)
    )
    return objective.linearize(randn(3, 2, seed=1))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=ACTIVATIONS.values())
def test_operations_with_kinks_are_named(activation):
    linearization = linearized(activation)
    names = kinked_operations(linearization.residual, linearization.point)
    assert ACTIVATIONS[activation] in names


@pytest.mark.parametrize("activation", [softplus, torch.tanh, silu, gelu])
def test_smooth_operations_are_not_and_neither_is_the_encoder(activation):
    linearization = linearized(activation)
    assert kinked_operations(linearization.residual, linearization.point) == ()


def test_the_note_is_told_and_the_gradient_used():
    """A piece of a piecewise quadratic: H = 2 + 2 where the relu is on."""
    theta = torch.tensor([[1.0]], dtype=torch.float64, requires_grad=True)
    solution = savi.minimize(
        lambda y: (relu(y).square() + (y - theta).square()).sum(-1),
        torch.zeros(1, 1, dtype=torch.float64),
        optimizer=GradientDescent(0.1),
        gradient=Implicit(),
        max_steps=300,
        rtol=1e-10,
    )
    with pytest.warns(SmoothnessNote, match="operations with kinks"):
        solution.value.sum().backward()
    assert not solution.certificate.smooth
    assert "relu" in solution.certificate.kinks
    assert not solution.certificate.failed.any()
    assert theta.grad.item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    "objective",
    [
        lambda y, a: 0.5 * (y - a).square() + y.abs(),
        lambda y, a: 0.5 * y.square() + relu(y - a).square() * 50.0,
    ],
    ids=["the gradient jumps", "the curvature jumps"],
)
def test_a_kink_at_the_solution_fails(objective):
    """At 0 with a = 0, where the derivative in a is different on either side."""
    a = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    solution = savi.minimize(
        lambda y: objective(y, a).sum(-1),
        torch.zeros(1, 1, dtype=torch.float64),
        optimizer=LevenbergMarquardt(),
        gradient=Implicit(),
        max_steps=0,
    )
    with (
        pytest.warns(ImplicitGradientWarning, match="jumps or bends near λK"),
        pytest.warns(SmoothnessNote),
    ):
        solution.value.sum().backward()
    assert solution.certificate.failed.all()
