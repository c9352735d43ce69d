"""The inner problem: objectives, optimisers, the loop, and what it returns."""

from savi.inner.anchored import AnchoredObjective, Proximal
from savi.inner.objective import OBJECTIVES, AutogradObjective, InnerObjective
from savi.inner.optimizers import (
    LBFGS,
    OPTIMIZERS,
    Adam,
    ChordLevenbergMarquardt,
    GaussNewton,
    GradientDescent,
    InnerOptimizer,
    LevenbergMarquardt,
    Momentum,
    NaturalGradient,
    Newton,
)
from savi.inner.solution import Reason, Solution, Status
from savi.inner.trust_region import TrustRegion

__all__ = [
    "LBFGS",
    "OBJECTIVES",
    "OPTIMIZERS",
    "Adam",
    "AnchoredObjective",
    "AutogradObjective",
    "ChordLevenbergMarquardt",
    "GaussNewton",
    "GradientDescent",
    "InnerObjective",
    "InnerOptimizer",
    "LevenbergMarquardt",
    "Momentum",
    "NaturalGradient",
    "Newton",
    "Proximal",
    "Reason",
    "Solution",
    "Status",
    "TrustRegion",
]
