"""Residual perceptrons."""

import pytest
import torch
from torch import nn

from savi.vae.networks import ResidualMLPDecoder


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
