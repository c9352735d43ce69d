"""Aggressive training of the encoder, against an encoder that lags behind (He et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from savi.data import TensorDataModule
from savi.data.batches import Visit
from savi.data.randomness import generator
from savi.training.module import SemiAmortizedVAE
from savi.vae.distributions import independent_noise
from savi.vae.mutual_information import mutual_information

#: Updates of the encoder whose mean loss is compared with that of as many before them.
WINDOW = 10
#: Validation examples that the mutual information is estimated from at most, and the stream of
#: its noise.
EXAMPLES, STREAM = 1_000, 900_011
#: The last number of the key of a batch: the loaders have 0 there.
EXTRA = 1


class Plateau:
    """Tells when losses have stopped falling, by means over windows."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.before = math.inf

    def reached(self, loss: float) -> bool:
        """Whether the window that this loss completes has a higher mean than the one before."""
        self.losses.append(loss)
        if len(self.losses) < WINDOW:
            return False
        mean = sum(self.losses) / WINDOW
        self.before, before, self.losses = mean, self.before, []
        # A loss that is not finite is none that falls.
        return not mean <= before


class AggressiveEncoder(Callback):
    """Updates the encoder alone before each training step, which then updates the model alone.

    Early in training the encoder lags behind the posterior of a model that moves, which can leave
    the codes unused for good (He, Spokoyny, Neubig and Berg-Kirkpatrick 2019, arXiv 1901.05534).
    So, as published, each step begins with updates of φ on training batches drawn at random until
    the mean loss of a :data:`WINDOW` of them is above that of the one before, or there have been
    ``most`` of them; the step itself moves θ. At the end of each epoch the mutual information
    I(x; z) under the encoder's q is estimated on validation examples, and logged: as soon as it is
    below that of the epoch before, training is the ordinary one for good.

    The updates are those of the run's own optimiser. Batches and noise come from the run's seed, so
    that a run goes on as if it had not been stopped.

    Args:
        most: the updates before a step at most.

    Attributes:
        active: whether training still is aggressive.
        information: the mutual information of the last epoch.
        updates: those of the encoder so far.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.active, self.information, self.updates = True, 0.0, 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the encoder until its loss stops falling."""
        if not self.active:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        optimizer, plateau = trainer.optimizers[0], Plateau()
        for number in range(self.most):
            loss = self._update(pl_module, optimizer, self._batch(data, pl_module, number))
            self.updates += 1
            if plateau.reached(loss):
                break
        optimizer.zero_grad(set_to_none=True)

    @staticmethod
    def _batch(data: TensorDataModule, module: SemiAmortizedVAE, number: int) -> torch.Tensor:
        key = data.seed, module.global_step, EXTRA, number
        # Not of the split itself, which computes all examples anew where they have noise.
        size = len(data.hashes["train"])
        positions = torch.randperm(size, generator=generator("aggressive encoder", *key))
        batch = data.visit("train", Visit(positions[: data.batch_size], key))
        return batch.x.to(module.device)

    @staticmethod
    def _update(
        module: SemiAmortizedVAE, optimizer: torch.optim.Optimizer, x: torch.Tensor
    ) -> float:
        """A step of φ on the outer loss of a batch, and that loss."""
        refine = module.refinement.refines(module.global_step)
        loss = module.outer_loss(x, module.beta, refine=refine, measured=False).loss
        weights = list(module.inference.parameters())
        slopes = torch.autograd.grad(loss, weights, allow_unused=True)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value
        optimizer.zero_grad(set_to_none=True)
        for weight, slope in zip(weights, slopes, strict=True):
            weight.grad = slope
        trainer = module.trainer
        module.clip_gradients(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
        optimizer.step()
        return value

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Leave the encoder to its own updates."""
        if self.active:
            for weight in pl_module.inference.parameters():
                weight.grad = None

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stop for good once the mutual information has fallen."""
        if not self.active:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        x = data.rows("val")[:EXAMPLES].to(pl_module.device)
        q = pl_module.family.distribution(pl_module.inference.start(x), pl_module.vae.given(x))
        noise = independent_noise(1, q.mean, pl_module.evaluation_noise(STREAM))
        information = mutual_information(q, noise)
        pl_module.log("val/mutual_information", information)
        if not information >= self.information:
            self.active = False
            print(
                f"epoch {trainer.current_epoch + 1}: the encoder is trained with the model from "
                f"here on: I(x; z) has fallen from {self.information:.2f} to {information:.2f} "
                f"nats after {self.updates:,} updates of the encoder alone",
                flush=True,
            )
        self.information = information

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "active": self.active, "information": self.information, "updates": self.updates,
        }  # fmt: skip

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Those of the run that this one resumes."""
        self.active, self.updates = state_dict["active"], state_dict["updates"]
        self.information = state_dict["information"]
