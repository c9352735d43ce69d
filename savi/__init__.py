"""savi: semi-amortized variational autoencoders with gradients that can be trusted."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from savi import gradients, implicit, inner, linear, vae
    from savi._minimize import minimize
    from savi.errors import InputError
    from savi.experiments.from_python import train
    from savi.experiments.trained import TrainedModel, load
    from savi.inner.objective import InnerObjective
    from savi.inner.solution import Solution, Status

__version__ = "0.1.0"

__all__ = [
    "InnerObjective",
    "InputError",
    "Solution",
    "Status",
    "TrainedModel",
    "gradients",
    "implicit",
    "inner",
    "linear",
    "load",
    "minimize",
    "train",
    "vae",
]

#: Where the names are that are no modules.
_HOMES = {
    "InnerObjective": "savi.inner.objective",
    "InputError": "savi.errors",
    "Solution": "savi.inner.solution",
    "Status": "savi.inner.solution",
    "TrainedModel": "savi.experiments.trained",
    "load": "savi.experiments.trained",
    "minimize": "savi._minimize",
    "train": "savi.experiments.from_python",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: PyTorch's import takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'savi' has no attribute '{name}'")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    return import_module(f"savi.{name}")
