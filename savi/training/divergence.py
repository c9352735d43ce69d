"""A training that ends in numbers that are none, and what is to blame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch

from savi.data import TensorDataModule
from savi.data.suitability import scale_fault
from savi.inner.loop import JUDGED


def require_finite(
    module: pl.LightningModule, epoch: int, data: TensorDataModule | None = None
) -> None:
    """Refuse weights that are not finite after an epoch, counted from 0.

    Args:
        module: whose weights they are.
        epoch: that is over.
        data: what it was trained on, whose scale is the first suspect.

    Raises:
        FloatingPointError: if any is not.
    """
    if not all(bool(torch.isfinite(p).all()) for p in module.parameters()):
        raise diverged("the parameters became non-finite", epoch, data, module)


@contextmanager
def factorised(data: TensorDataModule, epoch: Callable[[], int]) -> Iterator[None]:
    """Explain a matrix in a training that has no factors, as those of diverged weights have none.

    Args:
        data: what is trained on.
        epoch: tells the epoch that is at work, counted from 0.

    Raises:
        FloatingPointError: in place of the linear algebra's own error.
    """
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise diverged("a matrix became singular or non-finite", epoch(), data) from error


def diverged(
    what: str,
    epoch: int,
    data: TensorDataModule | None,
    module: pl.LightningModule | None = None,
) -> FloatingPointError:
    """What happened in an epoch, counted from 0: by the scale of the data, if that explains it."""
    inference = getattr(module, "inference", None)
    trusting = getattr(inference, "last_step", JUDGED) != JUDGED
    fault = None if data is None else scale_fault(data)
    why = (
        ": lower optimizer.lr, raise model.gamma.floor, or set trainer.gradient_clip_val"
        + " or inner.last_step=judged" * trusting
        if fault is None
        else f", likely because {fault}"
    )
    return FloatingPointError(f"{what} in epoch {epoch + 1}{why}")
