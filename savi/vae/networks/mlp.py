"""Multilayer perceptrons."""

from itertools import pairwise

from torch import nn

from savi.vae.networks.activations import ACTIVATIONS
from savi.vae.networks.base import DECODERS, ENCODERS, Decoder, Encoder
from savi.vae.networks.initialization import gain, initialized


def mlp_layers(
    in_dim: int, out_dim: int, hidden: int, depth: int, activation: str
) -> list[nn.Module]:
    """Linear, φ, Linear, φ, ..., Linear, with ``depth`` hidden layers of ``hidden`` units."""
    widths = [in_dim, *[hidden] * depth, out_dim]
    gains = [1.0, *[gain(activation)] * depth]
    layers: list[nn.Module] = []
    for (fan_in, fan_out), layer_gain in zip(pairwise(widths), gains, strict=True):
        linear = initialized(nn.Linear(fan_in, fan_out), layer_gain)
        layers += [linear, ACTIVATIONS[activation].build()]
    return layers[:-1]


@DECODERS.register("mlp")
class MLPDecoder(Decoder):
    """A multilayer perceptron from z to the mean of p(x|z); ``depth`` counts hidden layers."""

    def layers(self, hidden: int, depth: int, activation: str) -> list[nn.Module]:
        """See :func:`mlp_layers`."""
        return mlp_layers(self.latent_dim, self.data_dim, hidden, depth, activation)


@ENCODERS.register("mlp")
class MLPEncoder(Encoder):
    """A multilayer perceptron from x to the outputs; ``depth`` counts hidden layers."""

    def layers(self, hidden: int, depth: int, activation: str) -> list[nn.Module]:
        """See :func:`mlp_layers`."""
        return mlp_layers(self.data_dim, self.out_dim, hidden, depth, activation)
