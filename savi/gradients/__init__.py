"""Gradient backends: how the solution of the inner problem is differentiated."""

from savi.gradients.base import BACKENDS, EncoderGradient, GradientBackend
from savi.gradients.certificate import (
    Certificate,
    ImplicitGradientError,
    ImplicitGradientWarning,
    OnFailure,
    SmoothnessNote,
)
from savi.gradients.checkpointed import Checkpointed
from savi.gradients.finite_difference import FiniteDifference
from savi.gradients.implicit import Implicit
from savi.gradients.one_step import OneStep
from savi.gradients.reversible import Reversible
from savi.gradients.stop import StopGradient
from savi.gradients.truncated import Truncated
from savi.gradients.unrolled import Unrolled

__all__ = [
    "BACKENDS",
    "Certificate",
    "Checkpointed",
    "EncoderGradient",
    "FiniteDifference",
    "GradientBackend",
    "Implicit",
    "ImplicitGradientError",
    "ImplicitGradientWarning",
    "OnFailure",
    "OneStep",
    "Reversible",
    "SmoothnessNote",
    "StopGradient",
    "Truncated",
    "Unrolled",
]
