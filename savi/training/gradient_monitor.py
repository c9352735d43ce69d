"""The callback that checks the gradient of a run while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from savi.errors import require_at_least
from savi.implicit.reporter import ImplicitGradientError, collected
from savi.inference.gradient_check import (
    ProbeBatch,
    check_reference,
    compare,
    outer_gradient,
    reference_gradient,
)
from savi.training.module import SemiAmortizedVAE
from savi.types import Observations


class GradientMonitor(Callback):
    """Compares the gradient that a run trains with, on a fixed probe, with a float64 reference.

    Every ``every_n_steps`` training steps, beginning with the first, it logs the figures of
    :func:`compare` under ``gradient/``: ``cosine_to_reference`` (all parameters together), and for
    ``decoder`` (θ: the decoder and γ) and ``encoder`` (φ, where there is one)
    ``cosine_to_reference_*`` and ``relative_error_*``. What is not defined is not logged: a cosine
    where a gradient is zero, such as φ's under ``gradient=stop``, and nothing at all where
    ``gradient.on_failure=raise`` refuses the run's gradient. For the reference ``ift``,
    ``gradient/reference_failures`` is the share of the probe whose reference breaks a condition of
    the theorem: where it is above 0, the reference is no exact solution.

    The run's gradient is taken in the run's own precision at the weights before the step, and
    both gradients see the same noise. Training goes on as if the check had not been there.

    Attributes:
        last: the figures of the latest check.

    Args:
        module: the module that will be trained.
        x: the observations of the probe.
        every_n_steps: the number of training steps from one check to the next.
        reference: a name in :data:`savi.inference.gradient_check.REFERENCES`.

    Raises:
        InputError: for a number out of range, or a reference that does not fit the module.
    """

    def __init__(
        self, module: SemiAmortizedVAE, x: Observations, every_n_steps: int, reference: str
    ) -> None:
        require_at_least("every_n_steps", every_n_steps, 1)
        check_reference(reference, module.inference)
        self.every_n_steps, self.reference = every_n_steps, reference
        self.probe = ProbeBatch.draw(x, module.outer_loss, module.seed)
        self.last: dict[str, float] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Measure and log, if it is time."""
        if trainer.global_step % self.every_n_steps:
            return
        assert isinstance(pl_module, SemiAmortizedVAE)
        self.last = metrics = self.measure(trainer, pl_module)
        # Not the module's log: that reaches the loggers at every log_every_n_steps only.
        for logger in trainer.loggers:
            logger.log_metrics(metrics | {"epoch": trainer.current_epoch}, step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """The latest figures, for a checkpoint."""
        return {"last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Those of the run that this one continues."""
        self.last = dict(state_dict["last"])

    def measure(self, trainer: pl.Trainer, module: SemiAmortizedVAE) -> dict[str, float]:
        """The figures at the current weights."""
        outer, beta, plugin = module.outer_loss, module.beta, trainer.precision_plugin
        scaler = getattr(plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()
        with _unnoticed(module):
            try:
                measured, _ = outer_gradient(
                    outer, self.probe, beta, plugin.forward_context(), scale
                )
            except ImplicitGradientError:
                return {}
            reference, inference = reference_gradient(outer, self.probe, beta, self.reference)
        metrics = compare(measured, reference)
        certificate = inference.solution.certificate if inference.solution else None
        if certificate is not None and certificate.failed is not None:
            metrics["reference_failures"] = float(certificate.failed.double().mean())
        return {f"gradient/{name}": value for name, value in metrics.items()}


@contextmanager
def _unnoticed(module: SemiAmortizedVAE) -> Iterator[None]:
    """Leave no trace in random streams, in the count of decoder evaluations and in warnings."""
    evaluations = module.vae.decoder_evaluations
    devices = [module.device] if module.device.type == "cuda" else []
    try:
        # The run's own solves speak for themselves.
        with torch.random.fork_rng(devices), collected():
            yield
    finally:
        module.vae.decoder_evaluations = evaluations
