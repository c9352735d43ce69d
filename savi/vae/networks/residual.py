"""The residual block, for flat vectors and for images."""

from torch import Tensor, nn

from savi.vae.networks.activations import ACTIVATIONS
from savi.vae.networks.initialization import Layer, initialized


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
