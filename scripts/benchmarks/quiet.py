"""Output without the warnings that say nothing of a measurement."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from savi.implicit.certificate import CERTIFICATE_WARNINGS


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, what certificates find is not shown; it is computed all the same.

    Nor is it shown that torch's forward-mode AD calls a deprecated function, and that
    ``torch.compile`` looks at the gradient of every input.
    """
    with warnings.catch_warnings():
        for category in CERTIFICATE_WARNINGS:
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", ".*torch.jit.script.*", category=FutureWarning)
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor", category=UserWarning)
        yield
