"""Tells ``inner.when=auto`` what it decides by, and the loggers and the user what it decided."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from savi.inference.refinement import WhenItPays
from savi.vae.variance import whole_batch_mean

#: Whether a training refines, and what its seconds would buy else; the step at which it began.
REFINING, PRICE, REFINED_FROM = "inner/refining", "inner/refinement_price", "inner/refined_from"


class Refining(Callback):
    """Times steps and reads validations for a :class:`WhenItPays`, which checkpoints keep.

    Every validation logs ``inner/refining``, 0 or 1, and ``inner/refinement_price``, the nats that
    the seconds of refinement would buy in amortised steps, beside ``inner/improvement``, the nats
    that it adds.
    """

    def __init__(self, refinement: WhenItPays) -> None:
        self.refinement = refinement

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Start the clock for a step that is to be timed."""
        self._step = trainer.global_step
        if self.refinement.is_timed(self._step):
            self._start = _now(pl_module.device)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Stop it."""
        if self.refinement.is_timed(self._step):
            seconds = _now(pl_module.device) - self._start
            # The devices have to decide alike.
            taken = torch.tensor([seconds], dtype=torch.float64, device=pl_module.device)
            self.refinement.took(self._step, float(whole_batch_mean(taken)))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand over the bound and the gain, and say when refinement begins."""
        metrics, refinement = trainer.callback_metrics, self.refinement
        if trainer.sanity_checking or "inner/improvement" not in metrics:
            return
        begun = refinement.first is not None
        gain = float(metrics["inner/improvement"])
        refinement.validated(trainer.global_step, float(metrics["val/elbo"]), gain)
        otherwise = refinement.otherwise
        shown = {REFINING: float(refinement.first is not None)}
        if otherwise is not None:
            shown[PRICE] = otherwise
        pl_module.log_dict(shown, sync_dist=True)
        if not begun and refinement.first is not None and trainer.is_global_zero:
            print(in_words(refinement), flush=True)

    @property
    def last(self) -> dict[str, float]:
        """What a run's figures say of it."""
        known = {REFINED_FROM: self.refinement.first, PRICE: self.refinement.otherwise}
        return {name: float(value) for name, value in known.items() if value is not None}

    def state_dict(self) -> dict[str, Any]:
        """Its knowledge and its decision."""
        return self.refinement.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Those of the run that this one resumes."""
        self.refinement.load_state_dict(state_dict)


def in_words(refinement: WhenItPays) -> str:
    """Why refinement begins, and how to repeat it."""
    assert refinement.first is not None
    assert refinement.otherwise is not None
    return (
        f"refining from step {refinement.first:,} on: it adds {refinement.gain:.1f} nats to "
        f"validation bounds, and its seconds would buy {refinement.otherwise:.1f} in amortised "
        f"steps (a step costs {refinement.price:.1f} of those); inner.when={refinement.first} "
        "begins there again"
    )


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
