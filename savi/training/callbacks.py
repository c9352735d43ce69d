"""Callbacks: what a run costs, and its progress where there is no terminal."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    RichProgressBar,
)

from savi.errors import InputError
from savi.training.module import SemiAmortizedVAE


class CostMonitor(Callback):
    """Seconds, decoder evaluations and peak memory of training.

    ``cost/step_seconds`` is the median wall time of a training step, ``cost/decoder_evaluations``
    the number of codes decoded per example and step (tangents included, backward passes not), and
    ``cost/peak_memory_mb`` the peak of the GPU's allocator, or of the process without a GPU.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.evaluations = 0
        self.examples = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock."""
        assert isinstance(pl_module, SemiAmortizedVAE)
        pl_module.vae.decoder_evaluations = 0
        self._start = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop the clock and count."""
        assert isinstance(pl_module, SemiAmortizedVAE)
        self.seconds.append(time.perf_counter() - self._start)
        self.evaluations += pl_module.vae.decoder_evaluations
        self.examples += len(batch.x)

    def metrics(self) -> dict[str, float]:
        """The figures so far; empty before the first step."""
        if not self.seconds:
            return {}
        return {
            "cost/step_seconds": median(self.seconds),
            "cost/decoder_evaluations": self.evaluations / self.examples,
            "cost/peak_memory_mb": peak_memory_mb(),
        }


def peak_memory_mb() -> float:
    """The most memory in use so far: the GPU's if there is one, else the process's, in MB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    # The unit of ru_maxrss is a kilobyte on Linux and a byte on macOS.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class EpochLines(Callback):
    """A line for each epoch: the progress of a run whose output goes to a file."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch and its bounds."""
        if trainer.is_global_zero:
            shown = ("train/elbo", "val/elbo")
            metrics = trainer.callback_metrics
            figures = "  ".join(f"{k} {float(metrics[k]):.2f}" for k in shown if k in metrics)
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {figures}", flush=True)


class FiniteLoss(Callback):
    """Stops a run whose loss is no longer a number, instead of training on in silence."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the weights once an epoch: one non-finite loss makes them non-finite."""
        if not all(bool(torch.isfinite(p).all()) for p in pl_module.parameters()):
            raise FloatingPointError(
                f"the parameters became non-finite in epoch {trainer.current_epoch + 1}: lower "
                "optimizer.lr, raise model.gamma.floor, or set trainer.gradient_clip_val"
            )


class SaveOnInterrupt(Callback):
    """Writes ``last.ckpt`` when Ctrl-C stops the training.

    Not after other errors: those may have left weights that are worse than the last ones saved.
    """

    def __init__(self, checkpoints: str) -> None:
        self.path = str(Path(checkpoints) / "last.ckpt")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save while the trainer is still whole."""
        if isinstance(exception, KeyboardInterrupt):
            trainer.save_checkpoint(self.path, weights_only=False)


def build_callbacks(
    config: dict[str, Any], checkpoints: str, progress_bar: bool
) -> tuple[list[Callback], CostMonitor]:
    """The callbacks of a run; ``best.ckpt`` is the epoch with the highest val/elbo."""
    cost = CostMonitor()
    callbacks: list[Callback] = [
        cost,
        FiniteLoss(),
        SaveOnInterrupt(checkpoints),
        ModelCheckpoint(
            dirpath=checkpoints,
            filename="best",
            monitor="val/elbo",
            mode="max",
            save_last=True,
            enable_version_counter=False,
        ),
        RichProgressBar(leave=False) if progress_bar else EpochLines(),
    ]
    patience = config["early_stopping_patience"]
    if patience is not None:
        if patience < 1:
            raise InputError(
                f"callbacks.early_stopping_patience is {patience}: set it to 1 or more, or null"
            )
        callbacks.append(EarlyStopping("val/elbo", patience=patience, mode="max"))
    return callbacks, cost
