"""What one of several runs has to itself: its folder, record, loggers and checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack

import torch

from savi.experiments.checkpoint import save_weights
from savi.experiments.loggers import build_loggers
from savi.experiments.run import build, conclude, finishing, keep_what_there_is
from savi.replicas.configs import Plan
from savi.runs.folder import claimed
from savi.runs.record import recorded


class ReplicaRun:
    """One of the runs, which leaves in its folder what the separate run would leave there.

    The noise of its training comes from ``source``, which begins where the global one stands when a
    separate run begins to train. ``error`` is what it failed of, if it has, and ``logged`` holds
    the last value of every figure.
    """

    def __init__(self, plan: Plan) -> None:
        self.config, self.folder, self.origin = plan
        self.data, self.module = build(self.config)
        self.source = torch.Generator()
        self.source.set_state(torch.get_rng_state())
        self.error: Exception | None = None
        self.logged: dict[str, float] = {}
        self._best: float | None = None
        self._last = self.folder / "checkpoints" / "last.ckpt"
        self._resources = ExitStack()

    def claim(self) -> None:
        """Take the folder.

        Raises:
            InputError: if it holds a run, or belongs to another process.
        """
        self._resources.enter_context(claimed(self.folder, again=False))

    def open(self) -> None:
        """Begin the record and the logs."""
        enter = self._resources.enter_context
        enter(recorded(self.folder, self.origin, self.config))
        self._loggers, self._wandb = build_loggers(self.config, self.folder, self.origin)
        enter(finishing(self._wandb))

    def close(self, error: BaseException | None = None) -> None:
        """End the record and the logs, with the error that ended the run, if any did.

        Closed a second time, nothing happens.
        """
        resources = self._resources.pop_all()
        if self.error is None and isinstance(error, Exception):
            self.error = error
        kind, trace = (None, None) if error is None else (type(error), error.__traceback__)
        resources.__exit__(kind, error, trace)

    def log(self, figures: dict[str, float], epoch: int, step: int) -> None:
        """Hand figures to the loggers, unless the run has failed."""
        if self.error is None:
            self.logged |= figures
            for logger in self._loggers:
                logger.log_metrics(figures | {"epoch": epoch}, step)

    def save(self, epoch: int, step: int) -> None:
        """Write ``last.ckpt``, and ``best.ckpt`` if the last ``val/elbo`` is the highest yet."""
        save_weights(self._last, self.module, self.data, self.config, epoch, step)
        score = self.logged["val/elbo"]
        if self._best is None or score > self._best:
            self._best = score
            shutil.copyfile(self._last, self._last.with_name("best.ckpt"))

    def keep_what_there_is(self, epoch: int, step: int, cost: Mapping[str, float]) -> None:
        """After Ctrl-C: the weights, the figures and the curves so far."""
        save_weights(self._last, self.module, self.data, self.config, epoch, step)
        figures = self.logged | dict(cost) | self.module.solves.metrics()
        keep_what_there_is(self.folder, self._loggers, figures)

    def conclude(self, cost: Mapping[str, float]) -> dict[str, float]:
        """Evaluate the best epoch, as a separate run does; returns what ``metrics.json`` holds."""
        for logger in self._loggers:
            logger.finalize("success")
        of_training = {k: v for k, v in self.logged.items() if k.startswith("ift/")} | dict(cost)
        of_training |= self.module.solves.metrics()
        if self._best is not None:
            of_training["val/elbo"] = self._best
        return conclude(self.config, self.folder, self.data, self.module, of_training, self._wandb)
