"""savi: semi-amortized variational autoencoders with gradients that can be trusted."""

from savi import gradients, implicit, inner, linear, vae
from savi.errors import InputError
from savi.inner.minimize import minimize
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution
from savi.inner.status import Status

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
