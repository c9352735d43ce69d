"""Multilayer perceptrons made of residual blocks."""

from torch import nn

from savi.vae.networks.base import DECODERS, ENCODERS, Decoder, Encoder
from savi.vae.networks.initialization import initialized
from savi.vae.networks.residual import Residual


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
