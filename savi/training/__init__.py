"""Training with Lightning: the module and its callbacks."""

from savi.training.module import SemiAmortizedVAE
from savi.training.outer_optimizers import OUTER_OPTIMIZERS

__all__ = ["OUTER_OPTIMIZERS", "SemiAmortizedVAE"]
