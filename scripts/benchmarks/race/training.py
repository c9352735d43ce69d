"""Training against a clock, which can be cut off and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from benchmarks.images import Images
from benchmarks.race.finish import successor
from benchmarks.race.methods import Finish, Method
from benchmarks.trained import training_step
from savi.training.kl_weight import kl_weight
from savi.training.module import SemiAmortizedVAE

Clock = Callable[[], float]


@dataclass
class Training:
    """A module in training, and all that its course depends on.

    The clock runs in training steps alone: batches, verdicts and files cost nothing.
    """

    module: SemiAmortizedVAE
    optimizer: Optimizer
    images: Images
    method: Method
    budget: float
    clock: Clock
    seconds: float = 0.0
    steps: int = 0
    finishing: bool = False

    def until(self, mark: float) -> bool:
        """Train until so many seconds are spent; whether everything has stayed finite."""
        self.module.train()
        batches = self.images.training_batches(self.steps)
        while self.seconds < mark:
            finish, part = self.method.finish, self.seconds / self.budget
            if finish is not None and part >= finish.begin and not self.finishing:
                self._finish(finish)
            x, rate = next(batches), self.method.rate(part)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            refine = self.module.refinement.refines(self.steps)
            beta = kl_weight(self.module.kl, self.steps)
            start = self.clock()
            try:
                step = training_step(
                    self.module, self.optimizer, x, beta, measured=False, refine=refine
                )
            except torch.linalg.LinAlgError:
                return False
            loss = step.loss
            self.seconds += self.clock() - start
            self.steps += 1
            if not torch.isfinite(loss):
                return False
        return True

    def _finish(self, finish: Finish) -> None:
        """Go on with the other method; its optimiser begins anew."""
        self.module = successor(self.module, finish.overrides, self.images)
        self.optimizer = self.module.configure_optimizers()
        self.finishing = True

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on as if nothing had happened."""
        return {
            "module": self.module.state_dict(),
            "refinement": self.module.refinement.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "noise": torch.get_rng_state(),
            "seconds": self.seconds,
            "steps": self.steps,
            "finishing": self.finishing,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        # A race of before there was a finish says nothing of one.
        if state.get("finishing") and self.method.finish is not None:
            self._finish(self.method.finish)
        self.module.load_state_dict(state["module"])
        self.module.refinement.load_state_dict(state["refinement"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["noise"])
        self.seconds, self.steps = state["seconds"], state["steps"]
