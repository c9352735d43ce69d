"""Solves that are inexact on purpose, whose certificates need not be heard."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from savi.gradients import ImplicitGradientWarning, SmoothnessNote


@contextmanager
def quiet_certificates() -> Iterator[None]:
    """Inside, what certificates find is not shown; it is computed all the same."""
    with warnings.catch_warnings():
        for category in (ImplicitGradientWarning, SmoothnessNote):
            warnings.simplefilter("ignore", category)
        yield
