"""savi: semi-amortized variational autoencoders with gradients that can be trusted."""

from savi import gradients, implicit, inner, linear, vae
from savi._minimize import minimize
from savi.errors import InputError
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution, Status

__version__ = "0.1.0"

__all__ = [
    "InnerObjective",
    "InputError",
    "Solution",
    "Status",
    "gradients",
    "implicit",
    "inner",
    "linear",
    "minimize",
    "vae",
]
