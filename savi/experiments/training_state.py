"""What a training goes on from besides what Lightning keeps."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from savi.experiments.metrics_log import MetricsLog
from savi.experiments.saved_state import check_states
from savi.training.module import SemiAmortizedVAE
from savi.typed import conforms, holds_numbers

#: Where checkpoints hold it.
STATE_KEY = "savi_training"

#: Figures of ``metrics.json`` that are those of the last step that was logged.
OF_LAST_STEP = "ift/"


class TrainingState(Callback):
    """Keeps in every checkpoint, and restores, what decides on the rest of a training.

    That is the random states, the totals of the inner solves, the figures of the last step that
    was logged, whether the training has been stopped early, and how many rows ``metrics.csv`` has.

    It must be the first of the callbacks, so that the others find the random states.

    Attributes:
        figures: those of the last step.
        begun: whether everything has been restored, and a step has begun.
    """

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self._random: Mapping[str, Any] | None = None
        self.begun = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add it to what Lightning saves."""
        assert isinstance(pl_module, SemiAmortizedVAE)
        rows = 0
        for logger in trainer.loggers:
            # A row that is counted must not be lost.
            logger.save()
            if isinstance(logger, MetricsLog):
                rows = logger.rows
        checkpoint[STATE_KEY] = {
            "random": random_states(),
            "solves": pl_module.solves.state_dict(),
            "figures": self.metrics(trainer),
            "stopped": trainer.should_stop,
            "rows": rows,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore it; the random states when the next step begins.

        Raises:
            ValueError: for states of callbacks, which are given them next, of another kind.
        """
        assert isinstance(pl_module, SemiAmortizedVAE)
        check_states(cast(Any, trainer).callbacks, checkpoint["callbacks"])
        state = checkpoint[STATE_KEY]
        if not conforms(state, dict[str, Any]) or not conforms(state["figures"], dict[str, float]):
            raise ValueError("the figures of its last step are no numbers")
        if trainer.is_global_zero:
            pl_module.solves.load_state_dict(state["solves"])
        self.figures, self._random = dict(state["figures"]), state["random"]
        trainer.should_stop = state["stopped"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have the loader go on where it was, before it is asked for a batch.

        Lightning forgets to where the length of a schedule has been asked for before.

        Raises:
            ValueError: for moments of an optimiser that are not its parameters', or other flags.
        """
        check_moments(trainer.optimizers)
        check_flags(trainer.optimizers)
        trainer.fit_loop._load_combined_loader_states()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on between two epochs."""
        if self._restore():
            # Otherwise Lightning begins a pass over the loader here, which draws a number.
            iter(cast(Iterable[Any], trainer.train_dataloader))

    def on_train_batch_start(self, *args: Any) -> None:
        """Go on in the middle of an epoch."""
        self._restore()
        self.begun = True

    def metrics(self, trainer: pl.Trainer) -> dict[str, float]:
        """The figures of the last step that was logged."""
        logged = trainer.callback_metrics.items()
        return self.figures | {k: float(v) for k, v in logged if k.startswith(OF_LAST_STEP)}

    def _restore(self) -> bool:
        states, self._random = self._random, None
        if states is not None:
            restore_random_states(states)
        return states is not None


def check_moments(optimizers: Iterable[Optimizer]) -> None:
    """Look at what a checkpoint has given them, which they take as it is.

    Raises:
        ValueError: for a running mean that is missing, or has not the shape of its parameter.
    """
    for optimizer in optimizers:
        # All parameters have the same, or none yet.
        names = set().union(*optimizer.state.values())
        for parameter, state in optimizer.state.items():
            if state and (missing := sorted(names - state.keys())):
                raise ValueError(f"the optimiser has no {missing[0]} of a parameter")
            for name in ("exp_avg", "exp_avg_sq"):
                if name in state and not _is_mean(state[name], parameter):
                    shape = tuple(parameter.shape)
                    raise ValueError(f"{name} of the optimiser is no tensor of the shape {shape}")


def check_flags(optimizers: Iterable[Optimizer]) -> None:
    """See that a checkpoint has left them the flags that they were built with.

    Raises:
        ValueError: for one that has another value.
    """
    for optimizer in optimizers:
        for name, own in optimizer.defaults.items():
            if own is not None and not isinstance(own, bool):
                continue
            for group in optimizer.param_groups:
                if group.get(name, own) is not own:
                    raise ValueError(f"{name} of the optimiser is not {own}")


def _is_mean(value: object, parameter: Tensor) -> bool:
    """Whether it can be a running mean of a parameter's gradients."""
    return (
        isinstance(value, Tensor)
        and value.shape == parameter.shape
        and value.is_floating_point()
        and holds_numbers(value)
    )


def random_states() -> dict[str, Any]:
    """Those of Python, NumPy and torch, as plain values."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put back what :func:`random_states` returned."""
    kind, keys, *rest = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
