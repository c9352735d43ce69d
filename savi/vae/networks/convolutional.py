"""Strided convolutional networks for images of any size, plain and with residual blocks.

An image [C, H, W] is seen at ``depth`` coarser scales. Each halves the sides, rounding up, and all
but the first double the channels:

    scale 0: [C, H, W]   scale 1: [hidden, ⌈H/2⌉, ⌈W/2⌉]   scale 2: [2 hidden, ⌈H/4⌉, ⌈W/4⌉]  ...

One kernel fits both directions. With stride 2, padding 1 and k = 4 where the finer side n is even,
k = 3 where it is odd, a convolution maps n to ⌈n/2⌉, and the transposed convolution maps back to
exactly n = 2⌈n/2⌉ - 4 + k. At k = 4, a multiple of the stride, every pixel inside the border is
reached equally often, which avoids checkerboards (Odena et al. 2016).
"""

import math
from itertools import pairwise

from torch import Tensor, nn

from savi.errors import InputError
from savi.vae.networks.activations import ACTIVATIONS
from savi.vae.networks.base import DECODERS, ENCODERS, Decoder, Encoder
from savi.vae.networks.initialization import gain, initialized
from savi.vae.networks.mlp import Residual

Shape = tuple[int, int, int]


def image_scales(data_shape: tuple[int, ...], hidden: int, depth: int) -> list[Shape]:
    """The shapes [C, H, W] of scale 0 (the image) to scale ``depth`` (the coarsest).

    Raises:
        InputError: for data that are not images, and for a depth that would halve a single pixel.
    """
    if len(data_shape) != 3:
        raise InputError(
            f"data_shape is {data_shape}: a convolutional network needs images (C, H, W), so give "
            "such a shape or choose 'mlp'"
        )
    channels, height, width = data_shape
    # Halving n with rounding up reaches one pixel after ⌈log2 n⌉ steps.
    deepest = (min(height, width) - 1).bit_length()
    if depth > deepest:
        raise InputError(
            f"depth is {depth}, which would shrink images of {height} by {width} pixels below one "
            f"pixel: set it to at most {deepest}"
        )
    scales = [(channels, height, width)]
    for scale in range(depth):
        height, width = math.ceil(height / 2), math.ceil(width / 2)
        scales.append((hidden * 2**scale, height, width))
    return scales


class OnImages(nn.Module):
    """Apply a module for images [N, C, H, W] to flat vectors with any leading dimensions."""

    def __init__(self, module: nn.Module, shape: Shape) -> None:
        super().__init__()
        self.module = module
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """From [*batch, C H W] to [*batch, C' H' W']."""
        images = self.module(x.reshape(-1, *self.shape))
        return images.reshape(*x.shape[:-1], math.prod(images.shape[1:]))


def _kernel(fine: Shape) -> tuple[int, int]:
    _, height, width = fine
    return 4 - height % 2, 4 - width % 2


def downsample(fine: Shape, coarse: Shape, gain: float) -> OnImages:
    """A convolution of stride 2 from one scale to the next coarser one."""
    convolution = nn.Conv2d(fine[0], coarse[0], _kernel(fine), stride=2, padding=1)
    return OnImages(initialized(convolution, gain), fine)


def upsample(coarse: Shape, fine: Shape, gain: float) -> OnImages:
    """A transposed convolution of stride 2 from one scale to the next finer one."""
    convolution = nn.ConvTranspose2d(coarse[0], fine[0], _kernel(fine), stride=2, padding=1)
    return OnImages(initialized(convolution, gain), coarse)


def activate(shape: Shape, activation: str) -> list[nn.Module]:
    """What a plain convolutional network does at each scale: φ alone."""
    return [ACTIVATIONS[activation].build()]


@DECODERS.register("conv")
class ConvolutionalDecoder(Decoder):
    """Linear to the coarsest scale, then φ and a transposed convolution for each scale.

    ``hidden`` is the number of channels of the first scale and ``depth`` the number of scales.
    The head is the last transposed convolution, affine like every head (at depth 0, the linear
    layer).
    """

    at_scale = staticmethod(activate)

    def layers(self, hidden: int, depth: int, activation: str) -> list[nn.Module]:
        """Linear, then for each scale from the coarsest: ``at_scale`` and upsampling."""
        scales = image_scales(self.data_shape, hidden, depth)
        linear = nn.Linear(self.latent_dim, math.prod(scales[-1]))
        layers: list[nn.Module] = [initialized(linear, gain=1.0)]
        for coarse, fine in pairwise(reversed(scales)):
            layers += self.at_scale(coarse, activation)
            layers += [upsample(coarse, fine, gain(activation))]
        return layers


@ENCODERS.register("conv")
class ConvolutionalEncoder(Encoder):
    """A convolution and φ for each scale, then Linear from the coarsest.

    ``hidden`` is the number of channels of the first scale and ``depth`` the number of scales.
    """

    at_scale = staticmethod(activate)

    def layers(self, hidden: int, depth: int, activation: str) -> list[nn.Module]:
        """For each scale from the finest: downsampling and ``at_scale``; then Linear."""
        scales = image_scales(self.data_shape, hidden, depth)
        layers: list[nn.Module] = []
        layer_gain = 1.0
        for fine, coarse in pairwise(scales):
            layers += [downsample(fine, coarse, layer_gain), *self.at_scale(coarse, activation)]
            layer_gain = gain(activation)
        linear = nn.Linear(math.prod(scales[-1]), self.out_dim)
        return [*layers, initialized(linear, layer_gain)]


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
