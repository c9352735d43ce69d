"""Tells ``inner.when=auto`` what it decides by, and the loggers and the user what it decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from savi.data import TensorDataModule
from savi.inference.refinement import WhenItPays
from savi.types import Observations
from savi.vae.variance import whole_batch_mean

#: Whether a training refines; the gain on training examples; the step at which it began.
REFINING, TRAINED, REFINED_FROM = "inner/refining", "inner/improvement_train", "inner/refined_from"

#: The stream of the noise of the training examples.
STREAM = 77_003


class Refining(Callback):
    """Measures at validations what a :class:`WhenItPays` decides by, which checkpoints keep.

    Every validation logs ``inner/refining``, 0 or 1, and, until refinement begins,
    ``inner/improvement_train``, the nats that it adds to the bound of a batch of training examples,
    beside ``inner/improvement``, those of validation examples.
    """

    def __init__(self, refinement: WhenItPays) -> None:
        self.refinement = refinement
        self._examples: Observations | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep training examples: of a data module the same ones always, else of the last batch."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, TensorDataModule):
            self._examples = pl_module._batch(batch).x

    def _examples_of(self, trainer: pl.Trainer, pl_module: Any) -> Observations:
        if self._examples is None:
            data: TensorDataModule = trainer.datamodule  # type: ignore[attr-defined]
            self._examples = data.split("train")[: data.batch_size].to(pl_module.device)
        return self._examples

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Hand over the gains, and say when refinement begins."""
        metrics, refinement = trainer.callback_metrics, self.refinement
        if trainer.sanity_checking or "inner/improvement" not in metrics:
            return
        shown = {}
        if refinement.undecided(trainer.global_step):
            samples = pl_module.settings["val_samples"]
            noise = pl_module.evaluation_noise(STREAM)
            x = self._examples_of(trainer, pl_module)
            _, bound, initial = pl_module.evaluate_batch(x, noise, samples)
            # Devices that see examples of their own have to decide alike.
            gain = whole_batch_mean((bound.elbo - initial.elbo).double().mean())
            shown[TRAINED] = trained = float(gain)
            refinement.validated(trainer.global_step, float(metrics["inner/improvement"]), trained)
            if refinement.first is not None and trainer.is_global_zero:
                print(in_words(refinement), flush=True)
        shown[REFINING] = float(refinement.first is not None)
        pl_module.log_dict(shown, sync_dist=True)

    @property
    def last(self) -> dict[str, float]:
        """What a run's figures say of it."""
        first = self.refinement.first
        return {} if first is None else {REFINED_FROM: float(first)}

    def state_dict(self) -> dict[str, Any]:
        """Its knowledge and its decision."""
        return self.refinement.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Those of the run that this one resumes."""
        self.refinement.load_state_dict(state_dict)


def in_words(refinement: WhenItPays) -> str:
    """Why refinement begins, and how to repeat it."""
    assert refinement.first is not None
    return (
        f"refining from step {refinement.first:,} on: it adds {refinement.gain:.1f} nats to the "
        f"bounds of validation examples, and {refinement.trained:.1f} to those of training "
        f"examples; inner.when={refinement.first} begins there again"
    )
