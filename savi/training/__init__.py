"""Training with Lightning: the module and its callbacks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from savi.training.module import SemiAmortizedVAE
    from savi.training.outer_optimizers import OUTER_OPTIMIZERS

__all__ = ["OUTER_OPTIMIZERS", "SemiAmortizedVAE"]

_HOMES = {
    "OUTER_OPTIMIZERS": "savi.training.outer_optimizers",
    "SemiAmortizedVAE": "savi.training.module",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: Lightning's import takes seconds, and few need it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'savi.training' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
