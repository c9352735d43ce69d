"""Activations: their names, their smoothness, and the gain that undoes them."""

import pytest
import torch

from savi.errors import InputError
from savi.vae.networks import ACTIVATIONS, is_smooth
from savi.vae.networks.initialization import gain


def second_derivative(name: str, u: torch.Tensor) -> torch.Tensor:
    u = u.clone().requires_grad_()
    (first,) = torch.autograd.grad(ACTIVATIONS[name].build()(u).sum(), u, create_graph=True)
    if not first.requires_grad:
        return torch.zeros_like(u)
    return torch.autograd.grad(first.sum(), u)[0]


def first_derivative(name: str, u: torch.Tensor) -> torch.Tensor:
    u = u.clone().requires_grad_()
    return torch.autograd.grad(ACTIVATIONS[name].build()(u).sum(), u)[0]


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_smooth_means_that_no_derivative_up_to_the_second_jumps(name: str):
    """The largest change between neighbours shrinks with the grid, or stays at the jump."""
    u = torch.linspace(-30.0, 50.0, 160_001, dtype=torch.float64)
    jump = max(
        derivative(name, u).diff().abs().max()
        for derivative in (first_derivative, second_derivative)
    )
    assert (jump < 2e-3) == is_smooth(name)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="'swish': choose one of elu, gelu, leaky_relu, relu"):
        is_smooth("swish")


@pytest.mark.parametrize(("name", "expected"), [("relu", 2**0.5), ("leaky_relu", 1.41414)])
def test_gain_reproduces_he_initialisation(name: str, expected: float):
    assert gain(name) == pytest.approx(expected, rel=1e-4)
