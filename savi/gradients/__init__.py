"""Gradient backends: how the solution of the inner problem is differentiated."""

from savi.gradients.base import BACKENDS, EncoderGradient, GradientBackend
from savi.gradients.checkpointed import Checkpointed
from savi.gradients.finite_difference import FiniteDifference
from savi.gradients.implicit import Implicit
from savi.gradients.one_step import OneStep
from savi.gradients.reversible import Reversible
from savi.gradients.stop import StopGradient
from savi.gradients.truncated import Truncated
from savi.gradients.unrolled import Unrolled
from savi.implicit.adjoint_certificate import Certificate
from savi.implicit.policy import OnFailure
from savi.implicit.reporter import ImplicitGradientError, ImplicitGradientWarning, SmoothnessNote

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
