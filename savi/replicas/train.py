"""``trainer.replicas``: several runs in one process, at little more than the price of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from savi.experiments.loggers import quieten_libraries
from savi.replicas.configs import plans
from savi.replicas.fit import JointTraining
from savi.replicas.run import ReplicaRun
from savi.runs.record import Interrupted, Origin


def train(
    config: dict[str, Any], folder: Path, origin: Origin | None = None
) -> list[dict[str, float]]:
    """Train ``trainer.replicas`` runs together, and evaluate each as a separate run is.

    Every run leaves in ``folder/seed-0``, … (with ``trainer.vary``, ``folder/inner.rho-0.1``, …)
    what the separate run would leave there, with the same figures to rounding. Exceptions:
    ``cost/step_seconds`` is the time of a joint step over the number of runs, and checkpoints hold
    no state of the optimiser. A run that diverges is recorded as failed, and the others go on.

    Args:
        config: a whole run's config as plain values.
        folder: where the run folders lie.
        origin: how the runs were started.

    Returns:
        The contents of each ``metrics.json``, in order; empty for a run that has failed.

    Raises:
        InputError: before any work is done, for whatever is wrong with config, data or folders,
            and for what replicas cannot do.
        Interrupted: after Ctrl-C, when everything so far has been saved.
        FloatingPointError: if every run has diverged.
    """
    quieten_libraries()
    training = prepare(config, folder, origin or Origin())
    with opened(training.runs):
        print(_headline(training), flush=True)
        try:
            training.fit()
        except KeyboardInterrupt:
            for run in training.active:
                run.keep_what_there_is(training.epoch, training.ensemble.taken, training.cost())
            raise Interrupted(folder) from None
        return [_conclude(run, training.cost()) for run in training.runs]


def prepare(config: dict[str, Any], folder: Path, origin: Origin) -> JointTraining:
    """A joint training with everything built, and nothing done or written yet.

    Raises:
        InputError: for whatever is wrong with config or data, and for what replicas cannot do.
    """
    runs = [ReplicaRun(plan) for plan in plans(config, folder, origin)]
    return JointTraining(runs, config["trainer"])


@contextmanager
def opened(runs: Sequence[ReplicaRun]) -> Iterator[None]:
    """Hold the folders, records and logs of the runs; whatever ends this ends all that go on.

    Raises:
        InputError: if a folder holds a run, before anything is written.
        Exception: the first run's error, if all have failed.
    """
    try:
        for run in runs:
            run.claim()
        for run in runs:
            run.open()
        yield
    except BaseException as error:
        for run in runs:
            run.close(error)
        raise
    for run in runs:
        run.close()
    errors = [run.error for run in runs if run.error is not None]
    if len(errors) == len(runs):
        raise errors[0]


def _conclude(run: ReplicaRun, cost: dict[str, float]) -> dict[str, float]:
    """The final figures of a run; one that fails here fails alone."""
    if run.error is None:
        print(f"{run.folder.name}: ", end="")
        try:
            return run.conclude(cost)
        except Exception as error:
            run.close(error)
    return {}


def _headline(training: JointTraining) -> str:
    runs, first = training.runs, training.runs[0]
    names = ", ".join(run.folder.name for run in runs)
    return (
        f"{len(runs)} replicas of {first.config['experiment'] or 'savi'} on {first.data.name}, "
        f"{training.examples:,} training examples each: {names}"
    )
