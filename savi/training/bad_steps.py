"""Training steps that are left out, because their loss or their gradient is not finite."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from savi.data import TensorDataModule
from savi.data.batches import Batch
from savi.training.divergence import diverged, require_finite
from savi.typed import conforms
from savi.types import Rows

#: How many there were, where there were any.
BAD_STEPS = "train/bad_steps"

#: So many are told one by one; of those after them, each whose number is a power of two.
TOLD = 4


@dataclass(frozen=True)
class StepInputs:
    """What a training step is made of besides the weights, which a bad one leaves as they are.

    Attributes:
        batch: the examples.
        start: their warm starts, if there are any.
        refine: whether λ0 is refined.
        step: the number of the step, counted from 0.
        epoch: the number of the epoch, counted from 0.
        noise: the state of the source that its noise is drawn from.
    """

    batch: Batch
    start: Rows | None
    refine: bool
    step: int
    epoch: int
    noise: Tensor


class Fault(NamedTuple):
    """What was not finite, in words, at a step of an epoch, both counted from 0."""

    what: str
    step: int
    epoch: int


class BadSteps(Callback):
    """Counts and tells the steps that are left out, and ends a training that has too many.

    The optimiser, warm starts, a closed-form γ and an adapted step size know nothing of such a
    step. What counts steps, such as the schedules of β and of the learning rate, counts it too.

    They are counted over the whole training, not in a row: one that ends well has left out no more
    of them than were allowed, however long it was. Where most steps of an epoch are bad, there is
    no use in going on either. Checkpoints keep the counts.

    Attributes:
        count: how many there were.
        of_epoch: the last epoch that had some, and how many it had.
        first: the first of them.
        most: how many may be left out; None for any number.
        file: where the first of them is kept, to be repeated.
        keep: writes that file.
    """

    def __init__(self) -> None:
        self.count, self.of_epoch = 0, (0, 0)
        self.first: Fault | None = None
        self.most: int | None = None
        self.file: Path | None = None
        self.keep: Callable[[Path, Mapping[str, Any]], None] | None = None

    def add(
        self,
        what: str,
        inputs: StepInputs,
        module: pl.LightningModule,
        data: TensorDataModule | None = None,
        name: str = "",
    ) -> None:
        """One more step is left out; on several devices, by all of them.

        Args:
            what: what was not finite, on this device.
            inputs: of the step.
            module: whose weights it would have moved.
            data: what it is trained on.
            name: of the run, where several are trained.

        Raises:
            FloatingPointError: if this is one too many, or the weights themselves are not finite.
        """
        require_finite(module, inputs.epoch, data)
        epoch, count = self.of_epoch
        self.of_epoch = inputs.epoch, (count if epoch == inputs.epoch else 0) + 1
        self.count += 1
        whats = _of_all_devices(what)
        fault = Fault(min(whats, key=lambda one: "loss" not in one), inputs.step, inputs.epoch)
        if self.first is None:
            self.first = fault
            parts = _of_all_devices((inputs.batch, inputs.start))
            if self.file is not None and self.keep is not None and _is_first():
                self.keep(self.file, _record(inputs, parts) | {"what": fault.what})
        if _is_first() and (self.count <= TOLD or self.count & (self.count - 1) == 0):
            place = f"{name}epoch {fault.epoch + 1}: step {fault.step:,} is left out"
            line = f"{place} (number {self.count:,}): {fault.what}"
            print(f"warning: {line}", file=sys.stderr, flush=True)
        if self.most is not None and self.count > self.most:
            steps = f"{self.count:,} training steps" if self.count > 1 else "a training step"
            raise self._error(f"{steps} had to be left out", module, data)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End a training whose steps could not be taken."""
        data = getattr(trainer, "datamodule", None)
        known = data if isinstance(data, TensorDataModule) else None
        steps = int(trainer.num_training_batches)
        self.require_most(trainer.current_epoch, steps, pl_module, known)

    def require_most(
        self, epoch: int, steps: int, module: pl.LightningModule, data: TensorDataModule | None
    ) -> None:
        """Refuse to go on if more than half of the steps of an epoch had to be left out.

        Raises:
            FloatingPointError: then.
        """
        last, count = self.of_epoch
        # A single one says nothing, also where it is a whole epoch.
        if self.most is not None and self.count > 1 and last == epoch and 2 * count > steps:
            what = f"{count:,} of {steps:,} training steps of an epoch had to be left out"
            raise self._error(what, module, data)

    def _error(
        self, what: str, module: pl.LightningModule, data: TensorDataModule | None
    ) -> FloatingPointError:
        """What ends the training, with the first cause."""
        assert self.first is not None
        kept = self.file is not None and self.file.is_file()
        shown = f"; savi-train replay={self.file} shows the first" if kept else ""
        because = f"{what} (trainer.max_bad_steps={self.most}{shown}): {self.first.what}"
        return diverged(f"{because} at step {self.first.step:,}", self.first.epoch, data, module)

    def metrics(self) -> dict[str, float]:
        """The count by name; empty where there are none."""
        return {BAD_STEPS: float(self.count)} if self.count else {}

    def state_dict(self) -> dict[str, Any]:
        """The counts and the first one, for a checkpoint."""
        first = None if self.first is None else tuple(self.first)
        return {"count": self.count, "of_epoch": self.of_epoch, "first": first}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on counting.

        Raises:
            ValueError: for what are no counts.
        """
        first, of_epoch = state_dict["first"], tuple(state_dict["of_epoch"])
        places = of_epoch if first is None else (*of_epoch, *first[1:])
        if not conforms(places, tuple[int, ...]) or not (first is None or conforms(first[0], str)):
            raise ValueError("the bad steps are no counts")
        self.count, self.of_epoch = state_dict["count"], of_epoch
        self.first = None if first is None else Fault(*first)


def source_of_noise(device: torch.device) -> Tensor:
    """The state of the global source from which the noise of a step on a device is drawn."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _record(inputs: StepInputs, parts: list[tuple[Batch, Rows | None]]) -> dict[str, Any]:
    """A step as plain values and tensors of their own, with the rows of all devices."""
    own = {key: getattr(inputs, key) for key in ("refine", "step", "epoch", "noise")}
    batches, starts = zip(*parts, strict=True)
    x, index = (_dealt(values) for values in zip(*batches, strict=True))
    start = None if inputs.start is None else _dealt(starts)
    return own | {"x": x, "index": index, "start": start, "device": inputs.batch.x.device.type}


def _dealt(parts: tuple[Tensor, ...]) -> Tensor:
    """The rows of a batch that were dealt to several devices in turn."""
    return torch.stack([part.cpu() for part in parts], dim=1).flatten(0, 1)


def _of_all_devices(own: Any) -> list[Any]:
    """What each of the devices has."""
    if not (dist.is_available() and dist.is_initialized()):
        return [own]
    every = [None] * dist.get_world_size()
    dist.all_gather_object(every, own)
    return every


def _is_first() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
