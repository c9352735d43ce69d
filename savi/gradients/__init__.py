"""Gradient backends: how the solution of the inner problem is differentiated."""

from savi.gradients.base import BACKENDS, EncoderGradient, GradientBackend
from savi.gradients.certificate import (
    Certificate,
    ImplicitGradientError,
    ImplicitGradientWarning,
)
from savi.gradients.implicit import Implicit
from savi.gradients.stop import StopGradient
from savi.gradients.unrolled import Unrolled

__all__ = [
    "BACKENDS",
    "Certificate",
    "EncoderGradient",
    "GradientBackend",
    "Implicit",
    "ImplicitGradientError",
    "ImplicitGradientWarning",
    "StopGradient",
    "Unrolled",
]
