"""Convolutional networks for images of any size."""

import pytest
import torch
from torch import nn

from savi.errors import InputError
from savi.vae.networks import (
    DECODERS,
    ENCODERS,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    ResNetDecoder,
)
from savi.vae.networks.convolutional import image_scales

SHAPES = [
    ((1, 8, 8), 3),
    ((1, 28, 28), 3),
    ((3, 32, 32), 4),
    ((3, 64, 64), 2),
    ((2, 7, 13), 2),
    ((1, 2, 9), 1),
    ((1, 1, 5), 0),
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", ["conv", "resnet"])
@pytest.mark.parametrize(("shape", "depth"), SHAPES, ids=str)
def test_outputs_match_the_image_exactly(name: str, shape: tuple[int, int, int], depth: int):
    sizes = {"hidden": 2, "depth": depth, "activation": "relu"}
    data_dim = torch.Size(shape).numel()
    mean = DECODERS[name](4, shape, **sizes)(torch.randn(2, 4))
    assert mean.shape == (2, data_dim)
    assert ENCODERS[name](shape, 6, **sizes)(mean).shape == (2, 6)


def test_scales_halve_the_sides_and_double_the_channels():
    expected = [(3, 28, 9), (16, 14, 5), (32, 7, 3), (64, 4, 2)]
    assert image_scales((3, 28, 9), hidden=16, depth=3) == expected


@pytest.mark.parametrize("side", range(1, 40))
def test_the_deepest_network_ends_at_one_pixel_and_no_deeper_one_is_made(side: int):
    deepest = 0
    while image_scales((1, side, 64), 1, deepest)[-1][1] > 1:
        deepest += 1
    with pytest.raises(InputError, match=f"below one pixel: set it to at most {deepest}$"):
        image_scales((1, side, 64), 1, deepest + 1)


@pytest.mark.parametrize("name", ["conv", "resnet"])
@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 1, 28, 28)], ids=str)
def test_data_that_are_not_images_are_refused(name: str, shape: tuple[int, ...]):
    sizes = {"hidden": 2, "depth": 1, "activation": "relu"}
    with pytest.raises(InputError, match=r"needs images \(C, H, W\)"):
        DECODERS[name](4, shape, **sizes)
    with pytest.raises(InputError, match=r"needs images \(C, H, W\)"):
        ENCODERS[name](shape, 4, **sizes)


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 7, 13)], ids=str)
def test_pixels_of_the_encoder_are_laid_out_as_images(shape: tuple[int, int, int]):
    encoder = ConvolutionalEncoder(shape, 4, hidden=3, depth=1, activation="relu")
    images = torch.randn(5, *shape)
    convolution = next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))
    expected = encoder.head(convolution(images).relu().flatten(1))
    torch.testing.assert_close(encoder(images.flatten(1)), expected)


def test_every_pixel_and_every_code_matters():
    shape = (1, 7, 10)
    encoder = ConvolutionalEncoder(shape, 3, hidden=4, depth=2, activation="tanh")
    decoder = ConvolutionalDecoder(3, shape, hidden=4, depth=2, activation="tanh")
    into = torch.autograd.functional.jacobian(encoder, torch.rand(70))
    out = torch.autograd.functional.jacobian(decoder, torch.randn(3))
    assert (into.abs().amax(0) > 0).all()
    assert (out != 0).all()


def test_the_residual_decoder_starts_as_the_plain_one():
    sizes = {"hidden": 4, "depth": 2, "activation": "silu"}
    plain = ConvolutionalDecoder(3, (1, 8, 8), **sizes)
    residual = ResNetDecoder(3, (1, 8, 8), **sizes)
    skeleton = [module for module in residual.modules() if type(module) is nn.ConvTranspose2d]
    layers = [module for module in plain.modules() if type(module) is nn.ConvTranspose2d]
    for mine, other in zip([residual.trunk[0], *skeleton], [plain.trunk[0], *layers], strict=True):
        mine.load_state_dict(other.state_dict())
    z = torch.randn(5, 3)
    torch.testing.assert_close(residual(z), plain(z))
