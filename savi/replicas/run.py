"""What one of several runs has to itself: its folder, record, loggers and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from pytorch_lightning.loggers import Logger

from savi.experiments.checkpoint import DATA_KEY, save_weights
from savi.experiments.conclude import conclude, keep_what_there_is
from savi.experiments.loggers import build_loggers
from savi.experiments.metrics_log import MetricsLog
from savi.experiments.run import allow_bad_steps, build_again, finishing
from savi.replicas.configs import Plan
from savi.runs.folder import claimed, clear, read_metrics_json
from savi.runs.record import FIGURES, FINISHED, TRAINING, read_record, recorded, state_of
from savi.runs.whole import copy


class ReplicaRun:
    """One of the runs, which leaves in its folder what the separate run would leave there.

    The noise of its training comes from ``source``, which begins where the global one stands when a
    separate run begins to train. ``error`` is what it failed of, if it has, and ``logged`` holds
    the last value of every figure.

    Args:
        plan: of the run.
        state: that of an earlier start, from which the run goes on.
    """

    def __init__(self, plan: Plan, state: Mapping[str, Any] | None = None) -> None:
        self.config, self.folder, self.origin = plan
        own = None if state is None else state[DATA_KEY]
        self.data, self.module = build_again(self.config, self.folder, own)
        allow_bad_steps(self.config, self.folder, self.data, self.module)
        self.source = torch.Generator()
        self.source.set_state(torch.get_rng_state())
        self.error: Exception | None = None
        self.logged: dict[str, float] = {}
        self._best: float | None = None
        self._last = self.folder / "checkpoints" / "last.ckpt"
        self._begun, self._open, self._rows = state is not None, False, 0
        self._metrics: dict[str, float] | None = None
        self._loggers: list[Logger] = []
        self._resources = ExitStack()

    def claim(self, again: bool) -> None:
        """Take the folder.

        Args:
            again: whether it may hold a run, which has not finished or can go on with the others.

        Raises:
            InputError: if it holds a run, or belongs to another process.
        """
        begun = self._begun or state_of(self.folder) != FINISHED
        self._resources.enter_context(claimed(self.folder, again=again and begun))

    def open(self, over: bool | None) -> None:
        """Begin the record and the logs, unless nothing is left to do.

        Args:
            over: whether the training of an earlier start is over; None if there was none.
        """
        if over is None:
            clear(self.folder)
        record = read_record(self.folder)
        ended = record.get("state") == FINISHED
        if over and (ended or record.get("stage") == FIGURES):
            self._metrics = read_metrics_json(self.folder)
        if self.error is not None or (ended and self._metrics is not None):
            return
        enter = self._resources.enter_context
        self._record = enter(recorded(self.folder, self.origin, self.config))
        if not over:
            self._record.enter(TRAINING)
        self._loggers = build_loggers(self.config, self.folder, self.origin, self._rows)
        enter(finishing(self._loggers))
        self._open = True

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training depends on."""
        for logger in self._loggers:
            # A row that is counted must not be lost.
            logger.save()
            if isinstance(logger, MetricsLog):
                self._rows = logger.rows
        starts = self.module.warm_starts
        return {
            # Copies: of a view, the whole tensor would be saved.
            "module": {name: value.clone() for name, value in self.module.state_dict().items()},
            DATA_KEY: self.data.state_dict(),
            "source": self.source.get_state(),
            "starts": None if starts is None else starts.table,
            "solves": self.module.solves.state_dict(),
            "bad_steps": self.module.bad_steps.state_dict(),
            "error": None if self.error is None else str(self.error),
            "logged": self.logged,
            "best": self._best,
            "rows": self._rows,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; the weights are copied into those that the runs share."""
        self.module.load_state_dict(state["module"])
        self.source.set_state(state["source"])
        if self.module.warm_starts is not None:
            self.module.warm_starts.table = state["starts"]
        self.module.solves.load_state_dict(state["solves"])
        if "bad_steps" in state:
            # Earlier versions left out none.
            self.module.bad_steps.load_state_dict(state["bad_steps"])
        self.error = None if state["error"] is None else FloatingPointError(state["error"])
        self.logged, self._best = dict(state["logged"]), state["best"]
        self._rows = state["rows"]

    def close(self, error: BaseException | None = None) -> None:
        """End the record and the logs, with the error that ended the run, if any did.

        Closed a second time, nothing happens.
        """
        resources, self._open = self._resources.pop_all(), False
        if self.error is None and isinstance(error, Exception):
            self.error = error
        kind, trace = (None, None) if error is None else (type(error), error.__traceback__)
        resources.__exit__(kind, error, trace)

    @property
    def is_open(self) -> bool:
        """Whether its record and its logs are."""
        return self._open

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
            copy(self._last, self._last.with_name("best.ckpt"))

    def keep_weights(self, epoch: int, step: int) -> None:
        """Those so far, after a signal in a training."""
        save_weights(self._last, self.module, self.data, self.config, epoch, step)

    def keep_what_there_is(self, cost: Mapping[str, float]) -> None:
        """After a signal: the figures and curves so far; an evaluated run has them."""
        if self._record.content["stage"] == FIGURES:
            return
        counted = self.module.solves.metrics() | self.module.bad_steps.metrics()
        figures = self.logged | dict(cost) | counted
        draw = self.config["callbacks"]["figures"]
        keep_what_there_is(self.folder, self._loggers, figures, draw)

    def conclude(self, cost: Mapping[str, float]) -> dict[str, float]:
        """Evaluate the best epoch, as a separate run does; returns what ``metrics.json`` holds."""
        if not self._loggers:
            assert self._metrics is not None
            return self._metrics
        for logger in self._loggers:
            logger.finalize("success")
        of_training = {k: v for k, v in self.logged.items() if k.startswith("ift/")} | dict(cost)
        of_training |= self.module.solves.metrics() | self.module.bad_steps.metrics()
        if self._best is not None:
            of_training["val/elbo"] = self._best
        subject = self.config, self.folder, self.data, self.module
        return conclude(*subject, of_training, self._loggers, self._record, self._metrics)
