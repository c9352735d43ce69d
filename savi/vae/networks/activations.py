"""Activations by name, and how smooth each one is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from savi.registry import Registry


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity φ.

    Attributes:
        build: makes the module that applies φ.
        is_smooth: whether φ is C², that is, twice continuously differentiable.
    """

    build: Callable[[], nn.Module]
    is_smooth: bool


ACTIVATIONS: Registry[Activation] = Registry("activation")

# PyTorch replaces softplus by the identity above a threshold of 20, a jump of exp(-20) = 2e-9 that
# a solve in double precision can see. At 40 the jump, 4e-18, is below rounding.
_softplus = partial(nn.Softplus, threshold=40.0)

for _name, _activation in {
    "relu": Activation(nn.ReLU, is_smooth=False),
    "leaky_relu": Activation(nn.LeakyReLU, is_smooth=False),
    "elu": Activation(nn.ELU, is_smooth=False),
    "tanh": Activation(nn.Tanh, is_smooth=True),
    "softplus": Activation(_softplus, is_smooth=True),
    "gelu": Activation(nn.GELU, is_smooth=True),
    "silu": Activation(nn.SiLU, is_smooth=True),
}.items():
    ACTIVATIONS.register(_name)(_activation)


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
