"""Activations by name, and how smooth each one is."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from savi.registry import Registry
from savi.vae.networks.softplus import Softplus

Derivative = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity h = φ(a).

    Attributes:
        build: makes the module that applies φ.
        is_smooth: whether φ is C², that is, twice continuously differentiable.
        derivative: φ'(a), from a and h, if known in closed form.
        second_derivative: φ''(a), from a and h, if known in closed form.
    """

    build: Callable[[], nn.Module]
    is_smooth: bool
    derivative: Derivative | None = None
    second_derivative: Derivative | None = None


ACTIVATIONS: Registry[Activation] = Registry("activation")


def _zero(a: Tensor, h: Tensor) -> Tensor:
    return torch.zeros_like(a)


def _positive(a: Tensor, h: Tensor) -> Tensor:
    return (a > 0).to(a.dtype)


def _sigmoid_derivative(a: Tensor, h: Tensor) -> Tensor:
    s = a.sigmoid()
    return s * (1.0 - s)


def _silu_second_derivative(a: Tensor, h: Tensor) -> Tensor:
    s = a.sigmoid()
    return s * (1.0 - s) * (2.0 + a * (1.0 - 2.0 * s))


def _normal_density(a: Tensor) -> Tensor:
    return (-0.5 * a.square()).exp() / math.sqrt(2.0 * math.pi)


for _name, _activation in {
    "relu": Activation(nn.ReLU, False, _positive, _zero),
    "leaky_relu": Activation(
        nn.LeakyReLU, False, lambda a, h: 0.01 + 0.99 * _positive(a, h), _zero
    ),
    "elu": Activation(
        nn.ELU,
        False,
        lambda a, h: h.clamp_max(0.0) + 1.0,
        lambda a, h: torch.where(a > 0, 0.0, h + 1.0),
    ),
    "tanh": Activation(
        nn.Tanh, True, lambda a, h: 1.0 - h.square(), lambda a, h: -2.0 * h * (1.0 - h.square())
    ),
    "softplus": Activation(Softplus, True, lambda a, h: a.sigmoid(), _sigmoid_derivative),
    "gelu": Activation(
        nn.GELU,
        True,
        lambda a, h: torch.special.ndtr(a) + a * _normal_density(a),
        lambda a, h: (2.0 - a.square()) * _normal_density(a),
    ),
    "silu": Activation(
        nn.SiLU, True, lambda a, h: a.sigmoid() + h * (1.0 - a.sigmoid()), _silu_second_derivative
    ),
}.items():
    ACTIVATIONS.register(_name)(_activation)


def _kind(module: nn.Module) -> tuple[type, str]:
    return type(module), module.extra_repr()


_KINDS = {_kind(activation.build()): activation for activation in ACTIVATIONS.values()}


def activation_of(module: nn.Module) -> Activation | None:
    """The activation that a module applies, with the settings that it has here; None if another."""
    return _KINDS.get(_kind(module))


def is_smooth(name: str) -> bool:
    """Whether the activation is C², as the implicit function theorem asks of an inner objective.

    The theorem differentiates ∇_λ L, so the decoder must be twice continuously differentiable in z.
    ``relu`` and ``leaky_relu`` have a kink at 0, where their first derivative jumps. ``elu`` (with
    α = 1) is C¹ only: its second derivative is eᵘ for u < 0, which tends to 1, and 0 for u > 0.
    All three are C² almost everywhere: away from the kinks an implicit gradient is right, but it
    does not see the optimum move from one piece to the next. ``tanh``, ``softplus``, ``gelu`` and
    ``silu`` are C^∞.

    Raises:
        InputError: for an unknown name; the known ones are listed.
    """
    return ACTIVATIONS[name].is_smooth
