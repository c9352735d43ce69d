"""The inner problem: objectives, optimisers, the loop, and what it returns."""

from savi.inner.objective import AutogradObjective, InnerObjective
from savi.inner.optimizers import (
    OPTIMIZERS,
    Adam,
    GaussNewton,
    GradientDescent,
    InnerOptimizer,
    LevenbergMarquardt,
    Momentum,
)
from savi.inner.proximal import Proximal
from savi.inner.solution import Solution
from savi.inner.status import Status
from savi.inner.trust_region import TrustRegion

__all__ = [
    "OPTIMIZERS",
    "Adam",
    "AutogradObjective",
    "GaussNewton",
    "GradientDescent",
    "InnerObjective",
    "InnerOptimizer",
    "LevenbergMarquardt",
    "Momentum",
    "Proximal",
    "Solution",
    "Status",
    "TrustRegion",
]
