"""``trainer.replicas``: several runs in one process, at little more than the price of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from savi.experiments.loggers import quieten_libraries
from savi.experiments.run import warn_of_data
from savi.replicas.configs import plans
from savi.replicas.joint_state import read_joint_state
from savi.replicas.joint_training import JointTraining
from savi.replicas.run import ReplicaRun
from savi.runs.record import Interrupted, Origin
from savi.runs.stop import STOP
from savi.training.divergence import factorised
from savi.training.solve_totals import in_words


def train(
    config: dict[str, Any], folder: Path, origin: Origin | None = None
) -> list[dict[str, float]]:
    """Train ``trainer.replicas`` runs together, and evaluate each as a separate run is.

    Every run leaves in ``folder/seed-0``, … (with ``trainer.vary``, ``folder/inner.rho-0.1``, …)
    what the separate run would leave there, with the same figures to rounding. Exceptions:
    ``cost/step_seconds`` is the time of a joint step over the number of runs, and the state of the
    training lies beside the folders, in ``folder/replicas.ckpt``: with ``resume=auto`` the runs go
    on together. A run that diverges is recorded as failed, and the others go on.

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
    again = config.get("resume") is not None
    state = read_joint_state(config, folder, origin or Origin()) if again else None
    training = prepare(config, folder, origin or Origin(), state)
    cost = training.cost
    with STOP.handled(), opened(training.runs, again, training.over if state else None):
        print(training.headline(), flush=True)
        try:
            if not training.over:
                first = training.runs[0]
                warn_of_data(first.data, first.module)
                with factorised(first.data, lambda: training.epoch), STOP.patient():
                    training.fit()
            return [_conclude(run, cost.metrics()) for run in training.runs]
        except KeyboardInterrupt:
            for run in training.at_work:
                if not training.over:
                    run.keep_weights(training.epoch, training.ensemble.taken)
                run.keep_what_there_is(cost.metrics())
            raise Interrupted(folder, origin.again if origin else "") from None


def prepare(
    config: dict[str, Any], folder: Path, origin: Origin, state: Mapping[str, Any] | None = None
) -> JointTraining:
    """A joint training with everything built, where it begins or where an earlier start was.

    Raises:
        InputError: for whatever is wrong with config or data, and for what replicas cannot do.
    """
    planned = plans(config, folder, origin)
    states = [None] * len(planned) if state is None else state["runs"]
    runs = [ReplicaRun(plan, own) for plan, own in zip(planned, states, strict=True)]
    training = JointTraining(runs, config, folder)
    if state is not None:
        training.load_state_dict(state)
    return training


@contextmanager
def opened(
    runs: Sequence[ReplicaRun], again: bool = False, over: bool | None = None
) -> Iterator[None]:
    """Hold the folders, records and logs of the runs; whatever ends this ends all that go on.

    Args:
        runs: of one training.
        again: whether they may have been started before.
        over: whether the training of an earlier start is over; None if there is none to go on with.

    Raises:
        InputError: if a folder holds a run, before anything is written.
        Exception: the first run's error, if all have failed.
    """
    try:
        for run in runs:
            run.claim(again)
        for run in runs:
            run.open(over)
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
            metrics = run.conclude(cost)
            if line := in_words(metrics):
                print(f"{run.folder.name}: {line}", flush=True)
        except Exception as error:
            run.close(error)
        else:
            run.close()
            return metrics
    return {}
