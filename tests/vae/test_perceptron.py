"""Closed-form derivatives against those of torch.func."""

import pytest
import torch
from torch import Tensor, nn

from savi.vae.networks import DECODERS
from savi.vae.networks.activations import ACTIVATIONS
from savi.vae.perceptron import Perceptron


def randn(*size: int) -> Tensor:
    return torch.randn(*size, dtype=torch.float64)


def twice(function, z: Tensor) -> Tensor:
    return torch.func.vmap(torch.func.vmap(function))(z)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("affine_end", [False, True])
def test_derivatives_of_a_quadratic_of_the_outputs(activation: str, affine_end: bool):
    torch.manual_seed(0)
    build = ACTIVATIONS[activation].build
    layers = [nn.Linear(4, 7), build(), nn.Sequential(nn.Linear(7, 5), build()), nn.Identity()]
    network = nn.Sequential(*layers, *([nn.Linear(5, 6)] if affine_end else [])).double()
    width = 6 if affine_end else 5
    root, offset, z = randn(width, width), randn(width), randn(2, 3, 4)
    metric = root @ root.T

    def f(point: Tensor) -> Tensor:
        out = network(point)
        return 0.5 * out @ metric @ out + offset @ out

    chain = Perceptron.of(network)
    assert chain is not None
    forward = chain(z)
    torch.testing.assert_close(forward.value, network(z))
    c = forward.value @ metric + offset
    gradient = twice(torch.func.grad(f), z)
    torch.testing.assert_close(forward.pull_back(c), gradient)
    jacobian = twice(torch.func.jacrev(network), z)
    torch.testing.assert_close(forward.jacobian(), jacobian.mT)
    slope, hessian = forward.second_order(c, lambda v: v @ metric)
    torch.testing.assert_close(slope, gradient)
    torch.testing.assert_close(hessian, twice(torch.func.hessian(f), z))
    assert not any(t.requires_grad for t in (slope, hessian, forward.value))


def test_a_decoder_is_its_trunk_and_its_head():
    for depth in (0, 2):
        decoder = DECODERS["mlp"](2, (5,), hidden=3, depth=depth, activation="tanh")
        chain = Perceptron.of(decoder)
        assert chain is not None
        assert len(chain.layers) == depth + 1


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    network[0].register_forward_hook(lambda module, inputs, output: 2.0 * output)
    return network


def parametrised() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)), nn.Tanh())


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)),
        nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Tanh()),
        nn.Sequential(nn.Linear(2, 3), nn.Softplus(beta=2.0)),
        nn.Sequential(nn.Tanh(), nn.Linear(2, 3)),
        nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Tanh()),
        nn.Bilinear(2, 2, 3),
        hooked(),
        parametrised(),
    ],
    ids=["dropout", "norm", "other settings", "starts", "twice", "other", "hook", "weight norm"],
)
def test_what_is_no_plain_chain_is_left_to_autograd(network: nn.Module):
    assert Perceptron.of(network) is None
