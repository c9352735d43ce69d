"""Inner optimisers, by the names that configs use."""

from savi.inner.optimizers.adam import Adam
from savi.inner.optimizers.base import OPTIMIZERS, InnerOptimizer, Point
from savi.inner.optimizers.gauss_newton import GaussNewton
from savi.inner.optimizers.gradient_descent import GradientDescent, Momentum
from savi.inner.optimizers.levenberg_marquardt import LevenbergMarquardt

__all__ = [
    "OPTIMIZERS",
    "Adam",
    "GaussNewton",
    "GradientDescent",
    "InnerOptimizer",
    "LevenbergMarquardt",
    "Momentum",
    "Point",
]
