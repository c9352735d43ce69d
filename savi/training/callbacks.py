"""Callbacks: what a run costs, and its progress where there is no terminal."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from savi.data import TensorDataModule
from savi.implicit.reporter import Tally, collected
from savi.training.divergence import require_finite
from savi.training.durations import Durations


class CostMonitor(Callback):
    """Seconds, decoder evaluations and peak memory of training.

    ``cost/step_seconds`` is the median wall time of a training step, ``cost/decoder_evaluations``
    the number of codes decoded per example and step (tangents included, backward passes not), and
    ``cost/peak_memory_mb`` the peak of the GPU's allocator in a training step. Without a GPU it is
    the peak of the process so far, whatever else it did (validation, gradient checks).

    Args:
        runs: how many runs share a step, and its time.
    """

    def __init__(self, runs: int = 1) -> None:
        self.runs = runs
        self.seconds = Durations()
        self.evaluations = 0
        self.examples = 0
        self.peak_memory_mb = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Start the clock."""
        self.start(pl_module)

    def on_train_batch_end(
        self, trainer: Any, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock and count."""
        self.stop(pl_module, len(batch.x))

    def start(self, module: Any) -> None:
        """A step of the module begins."""
        module.vae.decoder_evaluations = 0
        if module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(module.device)
        self._start = time.perf_counter()

    def stop(self, module: Any, examples: int) -> None:
        """A step on so many examples is over."""
        self.seconds.add(time.perf_counter() - self._start)
        self.evaluations += module.vae.decoder_evaluations
        self.examples += examples
        self.peak_memory_mb = max(self.peak_memory_mb, peak_memory_mb(module.device))

    def state_dict(self) -> dict[str, Any]:
        """What has been counted, for a checkpoint."""
        counted = {"evaluations": self.evaluations, "examples": self.examples}
        seconds = self.seconds.state_dict()
        return counted | {"seconds": seconds, "peak_memory_mb": self.peak_memory_mb}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.evaluations, self.examples = state_dict["evaluations"], state_dict["examples"]
        self.peak_memory_mb, seconds = state_dict["peak_memory_mb"], state_dict["seconds"]
        if isinstance(seconds, Tensor):
            # Earlier versions kept every one.
            for one in seconds.tolist():
                self.seconds.add(one)
        else:
            self.seconds.load_state_dict(seconds)

    def metrics(self) -> dict[str, float]:
        """The figures so far; empty before the first step."""
        if not self.seconds:
            return {}
        return {
            "cost/step_seconds": self.seconds.median / self.runs,
            "cost/decoder_evaluations": self.evaluations / self.examples,
            "cost/peak_memory_mb": self.peak_memory_mb,
        }


def peak_memory_mb(device: torch.device) -> float:
    """The most memory in use so far: a CUDA device's, else the process's, in MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
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


class EpochWarnings(Callback):
    """Says once an epoch what the certificates have found, instead of at every step."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._tally = Tally()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count."""
        self._tally = self._open.enter_context(collected())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print a line for each kind of finding."""
        print_findings(self._tally, trainer.current_epoch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave it to the certificates again."""
        self._open.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Say what was found in the epoch that has failed."""
        print_findings(self._tally, trainer.current_epoch)
        self._open.close()


def print_findings(tally: Tally, epoch: int) -> None:
    """What the certificates found in an epoch, counted from 0, on the standard error."""
    for line in tally.lines():
        print(f"warning: epoch {epoch + 1}: {line}", file=sys.stderr, flush=True)


class FiniteLoss(Callback):
    """Stops a run whose loss is no longer a number, instead of training on in silence."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the weights once an epoch: one non-finite loss makes them non-finite."""
        data = getattr(trainer, "datamodule", None)
        known = data if isinstance(data, TensorDataModule) else None
        require_finite(pl_module, trainer.current_epoch, known)


class KeepRandomState(Callback):
    """Starts the training of several devices in the random state that one device would start in.

    Lightning seeds each of them anew; all have the same state then, but not that of one device,
    which has drawn the initial weights by this time.
    """

    def __init__(self) -> None:
        self.state = torch.get_rng_state()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the state back, before loaders and steps draw from it."""
        if trainer.world_size > 1:
            torch.set_rng_state(self.state)
