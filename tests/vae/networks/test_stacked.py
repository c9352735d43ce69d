"""Stacked networks are their parts, and share their weights."""

import pytest
import torch
from torch import nn

from savi.vae.expansion import Expansion
from savi.vae.networks import DECODERS
from savi.vae.networks.stacked import StackedLinear, StackedNetwork, shared, stack_networks
from savi.vae.perceptron import Perceptron

MODELS, SAMPLES, BATCH, LATENT = 3, 2, 4, 2


def decoders(name: str, activation: str = "tanh", depth: int = 2) -> list[nn.Module]:
    torch.manual_seed(0)
    shape = (6,) if "mlp" in name else (1, 4, 4)
    return [
        DECODERS[name](LATENT, shape, hidden=5, depth=depth, activation=activation).double()
        for _ in range(MODELS)
    ]


def codes(*leading: int) -> torch.Tensor:
    return torch.randn(*leading, MODELS, BATCH, LATENT, dtype=torch.float64)


@pytest.mark.parametrize("name", ["mlp", "residual_mlp", "conv", "resnet"])
@pytest.mark.parametrize("leading", [(), (1,), (SAMPLES,)])
def test_each_slice_is_one_of_the_networks(name, leading):
    networks = decoders(name, depth=1 if name in ("conv", "resnet") else 2)
    z = codes(*leading)
    expected = torch.stack([net(z[..., r, :, :]) for r, net in enumerate(networks)], dim=-3)
    torch.testing.assert_close(stack_networks(networks)(z), expected)


def test_perceptrons_are_batched_products_and_others_are_vectorised():
    stacked = stack_networks(decoders("mlp"))
    assert any(type(layer) is StackedLinear for layer in stacked)
    assert isinstance(stack_networks(decoders("residual_mlp")), StackedNetwork)


@pytest.mark.parametrize("name", ["mlp", "residual_mlp"])
def test_gradients_are_those_of_the_parts_and_lie_in_them(name):
    networks, alone = decoders(name), decoders(name)
    z = codes()
    stack_networks(networks)(z).sin().sum().backward()
    for r, network in enumerate(alone):
        network(z[r]).sin().sum().backward()
        for ours, own in zip(networks[r].parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, own.grad)


def test_weights_are_shared_in_both_directions():
    parts = [nn.Parameter(torch.zeros(2)) for _ in range(MODELS)]
    whole = shared(parts)
    with torch.no_grad():
        whole[1] += 1.0
        parts[2] -= 1.0
    assert parts[1].tolist() == [1.0, 1.0]
    assert whole[2].tolist() == [-1.0, -1.0]


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("leading", [(), (SAMPLES,)])
def test_a_stacked_perceptron_has_the_closed_derivatives_of_its_parts(depth, leading):
    networks = decoders("mlp", "softplus", depth)
    z, chains = codes(*leading), [Perceptron.of(network) for network in networks]
    weight = torch.rand(6, dtype=torch.float64)
    stacked = Perceptron.of(stack_networks(networks))
    together = stacked(z)
    cotangent = torch.randn_like(together.value)
    expansion, direction = Expansion.of(together, cotangent), torch.randn_like(z)
    hessian = expansion.hessian(lambda v: 0.5 * v * weight)
    product = expansion.product(lambda v: v * weight)(direction)
    for r, chain in enumerate(chains):
        alone, c = chain(z[..., r, :, :]), cotangent[..., r, :, :]
        torch.testing.assert_close(together.value[..., r, :, :], alone.value)
        torch.testing.assert_close(together.pull_back(cotangent)[..., r, :, :], alone.pull_back(c))
        torch.testing.assert_close(together.jacobian()[..., r, :, :, :], alone.jacobian())
        own = Expansion.of(alone, c)
        own_hessian = own.hessian(lambda v: 0.5 * v * weight)
        torch.testing.assert_close(expansion.slope[..., r, :, :], own.slope)
        torch.testing.assert_close(hessian[..., r, :, :, :], own_hessian)
        own_product = own.product(lambda v: v * weight)(direction[..., r, :, :])
        torch.testing.assert_close(product[..., r, :, :], own_product)
