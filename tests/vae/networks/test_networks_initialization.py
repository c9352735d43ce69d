"""Starting weights of every kind of layer."""

import pytest
import torch
from torch import nn

from savi.vae.networks.initialization import initialized


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Linear(64, 256), torch.Size([128, 64])),
        (nn.Conv2d(32, 32, 3), torch.Size([8, 32, 16, 16])),
        (nn.Conv2d(32, 32, 4, stride=2), torch.Size([8, 32, 16, 16])),
        (nn.ConvTranspose2d(32, 32, 4, stride=2), torch.Size([8, 32, 16, 16])),
        (nn.ConvTranspose2d(32, 32, (3, 4), stride=2), torch.Size([8, 32, 16, 16])),
    ],
    ids=["linear", "conv", "strided", "transposed", "transposed-odd"],
)
def test_the_signal_is_scaled_by_the_gain(layer: nn.Module, inputs: torch.Size):
    torch.manual_seed(0)
    outputs = initialized(layer, gain=2.0)(torch.randn(inputs))
    if isinstance(layer, nn.ConvTranspose2d):
        outputs = outputs[..., 3:-3, 3:-3]
    assert outputs.std().item() == pytest.approx(2.0, rel=0.1)
    assert not layer.bias.any()


def test_a_gain_of_zero_starts_at_zero():
    assert not initialized(nn.Linear(3, 4), gain=0.0).weight.any()
