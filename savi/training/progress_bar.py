"""The progress of a training in a terminal: one bar for the epoch, one time for the whole run."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from rich.progress import ProgressColumn, Task
from rich.text import Text

#: What Lightning shows of a logger: the id of the wandb run, of no use to anyone who looks on.
OF_LOGGER = "v_num"


class TimeLeft(ProgressColumn):
    """The time that is left to a training, by what its steps have taken since this start."""

    max_refresh = 0.5

    def __init__(self, trainer: pl.Trainer) -> None:
        super().__init__()
        self._trainer = trainer
        self._began, self._before = time.monotonic(), self._done

    @property
    def _done(self) -> int:
        return self._trainer.fit_loop.total_batch_idx + 1

    def left(self) -> timedelta | None:
        """That time in whole seconds; None before the first step is done, and without an end."""
        done, epochs = self._done - self._before, self._trainer.max_epochs
        if not done or epochs is None or epochs < 0:
            return None
        steps = epochs * self._trainer.num_training_batches - self._done
        seconds = (time.monotonic() - self._began) / done * max(0, steps)
        return timedelta(seconds=round(seconds))

    def render(self, task: Task) -> Text:
        """Lightning's other bars, such as that of a validation, show it too."""
        left = self.left()
        return Text("" if left is None else f"{left} left", style="dim")


class RunProgressBar(RichProgressBar):
    """Counts epochs from 1, as the lines of a run without a terminal do."""

    def __init__(self) -> None:
        super().__init__(leave=False)

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        """Description, bar and batches as Lightning has them, and the time left to the run."""
        return [*super().configure_columns(trainer)[:3], TimeLeft(trainer)]

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The bounds."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != OF_LOGGER}

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"
