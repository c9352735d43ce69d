"""Inner optimisers, by the names that configs use."""

from savi.inner.optimizers.adam import Adam
from savi.inner.optimizers.base import OPTIMIZERS, InnerOptimizer, Point
from savi.inner.optimizers.chord import ChordLevenbergMarquardt
from savi.inner.optimizers.gauss_newton import GaussNewton
from savi.inner.optimizers.gradient_descent import GradientDescent, Momentum
from savi.inner.optimizers.lbfgs import LBFGS
from savi.inner.optimizers.levenberg_marquardt import LevenbergMarquardt
from savi.inner.optimizers.natural_gradient import NaturalGradient
from savi.inner.optimizers.newton import Newton

__all__ = [
    "LBFGS",
    "OPTIMIZERS",
    "Adam",
    "ChordLevenbergMarquardt",
    "GaussNewton",
    "GradientDescent",
    "InnerOptimizer",
    "LevenbergMarquardt",
    "Momentum",
    "NaturalGradient",
    "Newton",
    "Point",
]
