"""The starting weights: every layer keeps the size of the signal, the last one makes it small."""

import math
from typing import TypeVar

import torch
from torch import nn

from savi.vae.networks.activations import ACTIVATIONS

OUTPUT_SCALE = 0.1

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def gain(activation: str) -> float:
    r"""The factor that undoes what φ does to the second moment, E[φ(u)²]^{-1/2} for u ~ N(0, 1).

    This is the argument of He et al. 2015 (arXiv 1502.01852), whose √2 for ``relu`` it reproduces,
    for any φ. The expectation is computed by the trapezoidal rule on [-10, 10].
    """
    # A number, also where networks are built without memory.
    u = torch.linspace(-10.0, 10.0, 4001, dtype=torch.float64, device="cpu")
    density = torch.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
    second_moment = torch.trapezoid(ACTIVATIONS[activation].build()(u) ** 2 * density, u)
    return float(second_moment.rsqrt())


def initialized(layer: Layer, gain: float) -> Layer:
    """Set the weights to N(0, gain² / fan_in) and the biases to zero; return the layer.

    ``fan_in`` is the mean number of inputs that an output sums over. For a transposed convolution
    of stride s that is channels · k_h k_w / (s_h s_w): the zeros between its inputs do not count.
    A gain of 0 gives a layer that starts at zero.
    """
    if isinstance(layer, nn.Linear):
        fan_in = float(layer.in_features)
    else:
        fan_in = float(layer.in_channels * math.prod(layer.kernel_size))
    if isinstance(layer, nn.ConvTranspose2d):
        fan_in /= math.prod(layer.stride)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_in))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


@torch.no_grad()
def shrink_output(head: nn.Module) -> None:
    """Scale the parameters of the last layer by ``OUTPUT_SCALE``, so that outputs start small.

    In an encoder this starts the variational parameters near 0: with a log-scale parameterisation
    q is near the prior, so the first KL is small and the first inner solve starts at a safe place.
    In a decoder it starts the mean at a variance of 0.01 for z from the prior, below that of the
    data: the precision of the first posterior, I + JᵀJ/γ with γ at the data variance, is then
    moderate, and the first inner problems are well conditioned.
    """
    for parameter in head.parameters():
        parameter.mul_(OUTPUT_SCALE)
