"""Residual convolutional networks for images: the strided ones with a residual block per scale."""

from torch import nn

from savi.vae.networks.base import DECODERS, ENCODERS
from savi.vae.networks.convolutional import (
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    OnImages,
    Shape,
    activate,
)
from savi.vae.networks.initialization import gain, initialized
from savi.vae.networks.residual_mlp import Residual


def activate_and_correct(shape: Shape, activation: str) -> list[nn.Module]:
    """φ, then a residual block of two 3×3 convolutions."""
    channels, _, _ = shape
    inner, outer = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
    block = Residual(initialized(inner, gain(activation)), activation, outer)
    return [*activate(shape, activation), OnImages(block, shape)]


@DECODERS.register("resnet")
class ResNetDecoder(ConvolutionalDecoder):
    """The ``conv`` decoder with a residual block at each scale below the image's own.

    Every block starts at the identity, so the network starts as a ``conv`` decoder. As in He et al.
    2016 (arXiv 1603.05027), nothing stands on the path around a block.
    """

    at_scale = staticmethod(activate_and_correct)


@ENCODERS.register("resnet")
class ResNetEncoder(ConvolutionalEncoder):
    """The ``conv`` encoder with a residual block at each scale below the image's own."""

    at_scale = staticmethod(activate_and_correct)
