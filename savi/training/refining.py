"""Tells ``inner.when=auto`` how many examples there are, and the user what it has decided."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from savi.inference.refinement import SCARCE, WhereScarce

#: The step at which refinement began.
REFINED_FROM = "inner/refined_from"


class Refining(Callback):
    """Has a :class:`WhereScarce` decide when a training begins."""

    def __init__(self, refinement: WhereScarce) -> None:
        self.refinement = refinement

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the training examples; say what follows."""
        count = examples_of(trainer)
        self.refinement.decide(count)
        if trainer.is_global_zero:
            print(in_words(self.refinement, count), flush=True)

    @property
    def last(self) -> dict[str, float]:
        """What a run's figures say of it."""
        first = self.refinement.first
        return {} if first is None else {REFINED_FROM: float(first)}

    def state_dict(self) -> dict[str, Any]:
        """What has been decided."""
        return self.refinement.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """That of the run that this one resumes."""
        self.refinement.load_state_dict(state_dict)


def examples_of(trainer: pl.Trainer) -> int | None:
    """How many examples are trained on; None where that is not known."""
    dataset = getattr(trainer.train_dataloader, "dataset", None)
    return len(dataset) if isinstance(dataset, Sized) else None


def in_words(refinement: WhereScarce, count: int | None) -> str:
    """What was decided and why."""
    known = "an unknown number of" if count is None else f"{count:,}"
    if refinement.first is None:
        return (
            f"training does not refine: {known} examples are more than {SCARCE:,}; "
            "inner.when=always refines all the same"
        )
    return f"training refines: {known} examples are at most {SCARCE:,}"
