"""Multilayer perceptrons."""

import pytest
import torch
from torch import nn

from savi.vae.networks import MLPDecoder, MLPEncoder, ResidualMLPDecoder


def kinds(network: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in network.modules() if not list(module.children())]


def test_a_2x500_perceptron_is_three_linear_layers_and_two_activations():
    sizes = {"hidden": 500, "depth": 2, "activation": "relu"}
    decoder, encoder = MLPDecoder(16, (1, 28, 28), **sizes), MLPEncoder((1, 28, 28), 32, **sizes)
    expected = [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert kinds(decoder) == kinds(encoder) == expected
    assert decoder.head.weight.shape == (784, 500)
    assert encoder.head.weight.shape == (32, 500)


def test_depth_0_is_the_decoder_of_probabilistic_pca():
    decoder = MLPDecoder(2, (5,), hidden=7, depth=0, activation="tanh")
    nn.init.normal_(decoder.head.bias)
    z = torch.randn(4, 2)
    assert isinstance(decoder.trunk, nn.Identity)
    torch.testing.assert_close(decoder(z), z @ decoder.head.weight.T + decoder.head.bias)


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus", "silu"])
def test_hidden_layers_keep_the_size_of_the_signal(activation: str):
    torch.manual_seed(0)
    decoder = MLPDecoder(64, (10,), hidden=512, depth=6, activation=activation)
    signal = torch.randn(256, 64)
    for layer in decoder.trunk:
        signal = layer(signal)
        if isinstance(layer, nn.Linear):
            assert 0.8 < signal.square().mean().sqrt() < 1.2


def test_the_decoder_starts_affine_at_any_depth():
    decoder = ResidualMLPDecoder(3, (6,), hidden=8, depth=5, activation="relu").double()
    stem, head = decoder.trunk[0], decoder.head
    z = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(decoder(z), head(stem(z)))


@pytest.mark.parametrize("depth", [1, 3])
def test_depth_counts_blocks_of_two_linear_layers(depth: int):
    decoder = ResidualMLPDecoder(3, (6,), hidden=8, depth=depth, activation="relu")
    linear = [module for module in decoder.modules() if isinstance(module, nn.Linear)]
    assert len(linear) == 2 + 2 * depth
