"""The starting weights: every layer keeps the size of the signal, the last one makes it small."""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from savi.vae.networks.activations import ACTIVATIONS

OUTPUT_SCALE = 0.1

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def _mean(f: Callable[[Tensor], Tensor]) -> Tensor:
    """E[f(u)] for u ~ N(0, 1), by the trapezoidal rule on [-10, 10]."""
    # A number, also where networks are built without memory.
    u = torch.linspace(-10.0, 10.0, 4001, dtype=torch.float64, device="cpu")
    density = torch.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
    return torch.trapezoid(f(u) * density, u)


def gain(activation: str) -> float:
    r"""The factor that undoes what φ does to the second moment, E[φ(u)²]^{-1/2} for u ~ N(0, 1).

    This is the argument of He et al. 2015 (arXiv 1502.01852), whose √2 for ``relu`` it reproduces,
    for any φ.
    """
    phi = ACTIVATIONS[activation].build()
    return float(_mean(lambda u: phi(u) ** 2).rsqrt())


def kept_share(activation: str) -> float:
    r"""The share of a small signal's variance that a layer keeps: gain² E[φ'(u)²] for u ~ N(0, 1).

    It is 1 or more for most φ. It is 0.32 for ``softplus``, whose mean outweighs what varies: after
    ``depth`` layers 0.32^depth of what a latent variable does is left, beside a constant.
    """
    phi = ACTIVATIONS[activation].build()

    def squared_slope(u: Tensor) -> Tensor:
        u = u.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(phi(u).sum(), u)
        return slope**2

    return gain(activation) ** 2 * float(_mean(squared_slope))


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
