"""Training with Lightning: the module, its callbacks and a whole run."""

from savi.training.module import SemiAmortizedVAE

__all__ = ["SemiAmortizedVAE"]
