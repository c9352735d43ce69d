"""Multilayer perceptrons, plain and made of residual blocks."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from savi.vae.networks.activations import ACTIVATIONS
from savi.vae.networks.base import DECODERS, ENCODERS, Decoder, Encoder
from savi.vae.networks.initialization import Layer, gain, initialized


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


def residual_mlp_layers(
    in_dim: int, out_dim: int, hidden: int, depth: int, activation: str
) -> list[nn.Module]:
    """Linear, ``depth`` residual blocks of ``hidden`` units, Linear.

    No activation stands between the blocks: the map is affine plus ``depth`` corrections, and
    starts affine.
    """

    def block() -> Residual:
        inner = initialized(nn.Linear(hidden, hidden), gain=1.0)
        return Residual(inner, activation, nn.Linear(hidden, hidden))

    return [
        initialized(nn.Linear(in_dim, hidden), gain=1.0),
        *(block() for _ in range(depth)),
        initialized(nn.Linear(hidden, out_dim), gain=1.0),
    ]


@DECODERS.register("residual_mlp")
class ResidualMLPDecoder(Decoder):
    """A residual perceptron from z to the mean of p(x|z); ``depth`` counts residual blocks.

    At depth 0 the affine mean has rank at most ``hidden``.
    """

    def layers(self, hidden: int, depth: int, activation: str) -> list[nn.Module]:
        """See :func:`residual_mlp_layers`."""
        return residual_mlp_layers(self.latent_dim, self.data_dim, hidden, depth, activation)


@ENCODERS.register("residual_mlp")
class ResidualMLPEncoder(Encoder):
    """A residual perceptron from x to the outputs; ``depth`` counts residual blocks."""

    def layers(self, hidden: int, depth: int, activation: str) -> list[nn.Module]:
        """See :func:`residual_mlp_layers`."""
        return residual_mlp_layers(self.data_dim, self.out_dim, hidden, depth, activation)


class Residual(nn.Module):
    """h + V φ(W h + b) + c, with V and c starting at zero.

    Starting at the identity keeps the signal's size at any depth, so that no normalisation is
    needed (Fixup; Zhang et al. 2019, arXiv 1901.09321).

    Args:
        inner: the affine map h -> W h + b.
        activation: the name of φ.
        outer: the affine map to V and c, back to the shape of h; set to zero here.
    """

    def __init__(self, inner: Layer, activation: str, outer: Layer) -> None:
        super().__init__()
        build = ACTIVATIONS[activation].build
        self.branch = nn.Sequential(inner, build(), initialized(outer, gain=0.0))

    def forward(self, h: Tensor) -> Tensor:
        """The block's output, in the shape of h."""
        return h + self.branch(h)
