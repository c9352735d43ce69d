"""Quadratic programs as a layer, after OptNet."""

from savi.implicit.qp.layer import QPLayer
from savi.implicit.qp.solution import QPSolution
from savi.implicit.qp.status import QPError, QPStatus, QPWarning

__all__ = ["QPError", "QPLayer", "QPSolution", "QPStatus", "QPWarning"]
