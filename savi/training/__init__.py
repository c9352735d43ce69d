"""Training with Lightning: the module and its callbacks."""

from savi.training.module import SemiAmortizedVAE

__all__ = ["SemiAmortizedVAE"]
