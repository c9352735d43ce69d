"""Starting weights of every kind of layer."""

import pytest
import torch
from torch import nn

from savi.vae.networks import ACTIVATIONS
from savi.vae.networks.initialization import gain, initialized, kept_share


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


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_a_layer_keeps_so_much_of_a_small_signal(activation: str):
    """How far two near inputs are apart, relative to their size, before a wide layer and after."""
    torch.manual_seed(0)
    layer, phi = initialized(nn.Linear(1000, 4000), gain=1.0), ACTIVATIONS[activation].build()
    x, step = torch.randn(64, 1000), 0.01 * torch.randn(64, 1000)
    scale = gain(activation)
    h, moved = scale * phi(layer(x)), scale * phi(layer(x + step))
    share = (moved - h).square().mean() / step.square().mean()
    assert share.item() == pytest.approx(kept_share(activation), rel=0.05)
    assert h.square().mean().item() == pytest.approx(1.0, rel=0.05)


def test_softplus_is_the_one_that_fades():
    shares = {name: kept_share(name) for name in ACTIVATIONS}
    assert [name for name, share in shares.items() if share < 0.9] == ["softplus"]
    assert shares["softplus"] == pytest.approx(0.32, abs=0.005)
