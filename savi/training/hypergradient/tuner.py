"""The callback that alternates training with steps in the hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from savi.data import TensorDataModule
from savi.implicit.hypergradient import Hypergradient, hypergradient
from savi.training.hypergradient.hyperparameters import assign, values
from savi.training.hypergradient.losses import Bilevel
from savi.training.module import SemiAmortizedVAE


class HypergradientTuner(Callback):
    """Every so many training steps, one step of Adam in the logarithms of the hyperparameters.

    The gradient is that of the validation bound (β = 1) through the best response of the weights,
    on examples and noise drawn anew each time. Training and tuning alternate, so that the weights
    follow the hyperparameters and are never quite their best response; the certificate, logged
    under ``hyper/``, shows how far they are from it.

    Args:
        settings: the ``hypergradient`` group.
        data: where the examples of both levels come from.
        seed: that of the run.

    Attributes:
        taken: steps taken so far, those left out included.
        last: the figures of the latest step.
    """

    def __init__(self, settings: Mapping[str, Any], data: TensorDataModule, seed: int) -> None:
        self.settings, self.data, self.seed = settings, data, seed
        self.taken = 0
        self.last: dict[str, float] = {}
        self._logs: dict[str, Tensor] = {}
        self._saved: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin at the values that the module holds: those of its config, or of a checkpoint."""
        self._logs = {
            name: torch.tensor(math.log(value), dtype=torch.float64, requires_grad=True)
            for name, value in values(pl_module, self.settings["tune"]).items()
        }
        self._adam = torch.optim.Adam([*self._logs.values()], lr=self.settings["lr"])
        if self._saved is not None:
            self._adam.load_state_dict(self._saved["optimizer"])
            self.taken, self.last = self._saved["taken"], dict(self._saved["last"])
            for name, log in self._logs.items():
                # The module holds them in single precision.
                log.data.fill_(self._saved["logs"][name])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Step and log, if it is time."""
        if (
            trainer.current_epoch < self.settings["start_epoch"]
            or trainer.global_step % self.settings["every_n_steps"]
        ):
            return
        assert isinstance(pl_module, SemiAmortizedVAE)
        self.last = self.step(pl_module)
        # Not the module's log: that reaches the loggers at every log_every_n_steps only.
        for logger in trainer.loggers:
            logger.log_metrics(
                self.last | {"epoch": trainer.current_epoch}, step=trainer.global_step
            )

    def step(self, module: SemiAmortizedVAE) -> dict[str, float]:
        """Move the hyperparameters once.

        Returns:
            Their new values, and the certificate.

        Raises:
            ImplicitGradientError: under ``raise``, if a condition of the theorem is broken.
        """
        found = self._hypergradient(module)
        gradients = torch.stack([g.reshape(()) for g in found.gradients])
        certificate, policy = found.certificate, self.settings["on_failure"]
        failed = certificate.failed or not bool(torch.isfinite(gradients).all())
        if not (failed and policy == "skip") and bool(torch.isfinite(gradients).all()):
            for log, gradient in zip(self._logs.values(), gradients, strict=True):
                log.grad = gradient
            self._adam.step()
            assign(module, {name: float(log.detach().exp()) for name, log in self._logs.items()})
        self.taken += 1
        held = values(module, self._logs)
        return {f"hyper/{name}": value for name, value in held.items()} | {
            "hyper/norm": float(gradients.norm()),
            "hyper/stationarity": certificate.relative_stationarity,
            "hyper/outer_shift": certificate.outer_shift,
            "hyper/linear_residual": certificate.linear_residual,
            "hyper/linear_steps": float(certificate.linear_steps),
            "hyper/min_curvature": certificate.min_curvature,
            "hyper/failed": float(failed),
        }

    def _hypergradient(self, module: SemiAmortizedVAE) -> Hypergradient:
        """That of the logarithms, at the module's weights."""
        settings = self.settings
        source = torch.Generator().manual_seed(self.seed * 1_000_003 + self.taken)
        bilevel = Bilevel.of(
            module.outer_loss,
            self._draw("train", source),
            self._draw("val", source),
            beta=float(module.kl_weight),
            samples=settings["samples"],
            seed=int(torch.randint(2**30, (), generator=source)),
            on_failure="raise" if settings["on_failure"] == "raise" else "warn",
        )
        device = bilevel.weights[0].device
        hyper = {name: log.exp().to(device) for name, log in self._logs.items()}
        return hypergradient(
            bilevel.train_loss(hyper),
            bilevel.val_loss(hyper),
            bilevel.weights,
            [*self._logs.values()],
            solver=settings["solver"],
            damping=settings["damping"],
            rtol=settings["rtol"],
            max_steps=settings["max_steps"],
            max_stationarity=settings["max_stationarity"],
            max_error=math.inf,
            on_failure="silent" if settings["on_failure"] == "skip" else settings["on_failure"],
        )

    def _draw(self, split: str, source: torch.Generator) -> Float[Tensor, "N D"]:
        """The examples of a step: all of a split, or so many of it."""
        x, examples = self.data.rows(split), self.settings["examples"]
        if examples is None or examples >= len(x):
            return x
        return x[torch.randperm(len(x), generator=source)[:examples]]

    def state_dict(self) -> dict[str, Any]:
        """Its own and Adam's state, for a checkpoint."""
        if not self._logs:
            return {}
        logs = {name: float(log.detach()) for name, log in self._logs.items()}
        own = {"taken": self.taken, "last": self.last, "logs": logs}
        return own | {"optimizer": self._adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hold a checkpoint's state until training starts."""
        self._saved = state_dict or None
