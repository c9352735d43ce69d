"""Where a run in a folder goes on: ``resume=auto``, or from a checkpoint that is named."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from savi.config.schema import ENDLESS_SCHEDULES
from savi.errors import InputError
from savi.experiments.checkpoint import (
    CONFIG_KEY,
    DATA_KEY,
    OPTIMIZERS_KEY,
    read_checkpoint,
    restoring,
)
from savi.experiments.earlier import meant_by_absence
from savi.experiments.training_state import STATE_KEY
from savi.runs.folder import clear, contents, differences, read_config, read_metrics_json
from savi.runs.record import FIGURES, FINISHED, RECORD, read_record
from savi.runs.whole import copy

AUTO = "auto"

#: The checkpoints of a run, below its folder; the first is the one that it goes on from.
LAST, BEST = Path("checkpoints/last.ckpt"), Path("checkpoints/best.ckpt")

#: The best one before it.
BEFORE = Path("checkpoints/best.before.ckpt")

#: What may change while a run goes on: it leaves the results as they are, or only adds to them.
MAY_CHANGE = frozenset(
    {
        *("logger", "resume", "trainer.threads", "trainer.enable_progress_bar"),
        *("trainer.max_epochs", "trainer.max_bad_steps", "trainer.profiler"),
        *("trainer.enable_model_summary", "trainer.enable_autolog_hparams"),
        *("callbacks.figures", "callbacks.media_every_n_epochs"),
        *("callbacks.checkpoint_every_n_minutes", "callbacks.keep_optimizer"),
    }
)


@dataclass(frozen=True)
class Progress:
    """How far the run in a folder has come.

    Attributes:
        checkpoint: the file that it goes on from.
        preprocessing: that of the data.
        rows: so many rows of ``metrics.csv`` had been written by then.
        over: whether the training is.
        metrics: ``metrics.json``, if the run has been evaluated.
        finished: whether nothing is left to do.
    """

    checkpoint: Path
    preprocessing: dict[str, Any]
    rows: int
    over: bool
    metrics: dict[str, float] | None
    finished: bool


def progress(config: Mapping[str, Any], folder: Path, *, job: bool = False) -> Progress | None:
    """How far the run of this config in a folder has come, which this process holds.

    A checkpoint that is damaged is named, and the one before it used. Where there is none to go on
    from, what the run has left is removed.

    Args:
        config: of the run that goes on.
        folder: of the run.
        job: whether it is a job of a sweep, which begins again where a run would be refused.

    Raises:
        InputError: for a folder that does not hold this run.
    """
    wanted = config.get("resume")
    if wanted is not None and wanted != AUTO:
        _adopt(Path(wanted), folder)
    if not contents(folder):
        return None
    try:
        _require_a_run(folder)
        with restoring(folder / LAST, lambda: False):
            found = _newest(config, folder)
            if found is not None:
                return _judged(found, config, folder)
        if (earlier := read_config(folder)) is not None:
            refuse_another(earlier, config, folder)
    except InputError as error:
        if not job:
            raise
        warn(f"{error}: begun again")
    clear(folder)
    return None


def followed(config: Mapping[str, Any], folder: Path) -> Progress | None:
    """The same on another device of a run, after the first one has put the folder in order."""
    if not (folder / LAST).is_file():
        return None
    with restoring(folder / LAST, lambda: False):
        return _judged(read_checkpoint(folder / LAST), config, folder)


def _adopt(source: Path, folder: Path) -> None:
    """Have a folder hold what a run was when it wrote a checkpoint."""
    if (source / LAST).is_file():
        source = source / LAST
    own = [(folder / name).resolve() for name in (LAST, BEST)]
    earlier = read_config(folder) or {}
    if source.resolve() == own[0] or (contents(folder) and earlier.get("resume") == str(source)):
        # It is at that checkpoint already, or has come further since.
        return
    if (folder / LAST).exists() and source.resolve() not in own:
        raise InputError(
            f"'{folder}' holds a run already: to go on from '{source}', choose another "
            "hydra.run.dir; to go on with the run in it, set resume=auto"
        )
    beside, log = source.resolve().parent, Path("metrics.csv")
    # The last one last: it is what says that the folder holds a run.
    for name, origin in (
        *((log, beside.parent / log), (BEST, beside / BEST.name)),
        (LAST, _with_optimizer(source).resolve()),
    ):
        if origin.is_file() and origin != (folder / name).resolve():
            copy(origin, folder / name)


def _with_optimizer(source: Path) -> Path:
    """A checkpoint, or the last one beside it if that is of the same step and knows more.

    The best epoch of a training that is over knows nothing of the optimiser.
    """
    contents, last = read_checkpoint(source), source.resolve().with_name(LAST.name)
    other = None if contents.get(OPTIMIZERS_KEY) else _whole(last)
    same = other is not None and other["global_step"] == contents["global_step"]
    return last if same else source


def _require_a_run(folder: Path) -> None:
    """Refuse to remove what no run of savi has left."""
    if not any((folder / name).exists() for name in (RECORD, "config.yaml", "checkpoints")):
        raise InputError(
            f"'{folder}' holds no run that could go on ({', '.join(contents(folder))}): choose "
            "another hydra.run.dir"
        )


def _newest(config: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    """The contents of the newest checkpoint, which ``last.ckpt`` is afterwards.

    Between the two, at the end of an epoch, a run may be killed; either may be damaged. Where the
    best epoch is lost, it is one from which the run gets to it again. One without the state of its
    optimiser gets nowhere, unless it is the end of the training.
    """
    last, best = (_whole(folder / name) for name in (LAST, BEST))
    newer = best is not None and (last is None or last["global_step"] < best["global_step"])
    if best is not None and newer and _leads_on(best, config):
        copy(folder / BEST, folder / LAST)
        return best
    if last is not None and (best is not None or _step_of_best(last) is None):
        return last
    if last is not None and _step_of_best(last) == last["global_step"]:
        copy(folder / LAST, folder / BEST)
        return last
    before = _whole(folder / BEFORE)
    if before is not None and before.get(OPTIMIZERS_KEY):
        warn(
            f"the best epoch of the run in '{folder}' is lost: gone on from the best one before "
            f"it, epoch {before['epoch'] + 1}"
        )
        copy(folder / BEFORE, folder / BEST)
        copy(folder / BEFORE, folder / LAST)
        return before
    if any((folder / name).is_file() for name in (LAST, BEST)):
        warn(f"the run in '{folder}' has no checkpoint from which it gets to its best: begun again")
    return None


def _whole(path: Path) -> dict[str, Any] | None:
    """The contents of a checkpoint; None if there is none, or it is damaged, which is said."""
    if not path.is_file():
        return None
    try:
        return read_checkpoint(path)
    except InputError as error:
        warn(f"{error}: not used")
        return None


def _step_of_best(contents: Mapping[str, Any]) -> int | None:
    """After which step of a training its best epoch was over; None if it has none yet.

    It is -1 where an earlier version has not written it down.
    """
    for name, state in contents.get("callbacks", {}).items():
        if "val/elbo" in name and state.get("best_model_path"):
            return -1 if state.get("step") is None else state["step"]
    return None


def _judged(checkpoint: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> Progress:
    """How far the run of a checkpoint has come."""
    refuse_another(checkpoint[CONFIG_KEY], config, folder)
    if STATE_KEY not in checkpoint:
        raise InputError(
            f"the run in '{folder}' has kept no state of its training, as one of several replicas, "
            "or by an earlier version, so that it cannot go on: choose another hydra.run.dir"
        )
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    refuse_epochs(checkpoint[CONFIG_KEY], config, epochs["started"], folder)
    state, record = checkpoint[STATE_KEY], read_record(folder)
    over = _is_over(checkpoint, config)
    ended = record.get("state") == FINISHED
    evaluated = over and (ended or record.get("stage") == FIGURES)
    metrics = read_metrics_json(folder) if evaluated else None
    if not over and not checkpoint.get(OPTIMIZERS_KEY):
        warn(
            f"the run in '{folder}' goes on from a training that was over, and of which nothing "
            "has kept the state of the optimiser, which begins anew"
        )
    return Progress(
        folder / LAST,
        checkpoint[DATA_KEY],
        state["rows"],
        over,
        metrics,
        finished=ended and metrics is not None,
    )


def _leads_on(checkpoint: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a run has the same end from a checkpoint on; one without any state is refused."""
    if STATE_KEY not in checkpoint:
        return True
    return bool(checkpoint.get(OPTIMIZERS_KEY)) or _is_over(checkpoint, config)


def _is_over(checkpoint: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether the training of a checkpoint is."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    steps = config["trainer"].get("max_steps")
    return (
        checkpoint[STATE_KEY]["stopped"]
        or epochs["processed"] >= config["trainer"]["max_epochs"]
        or (steps is not None and checkpoint["global_step"] >= steps)
    )


def refuse_another(earlier: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with another config than the run was begun with."""
    changed = differences(earlier, config, meant_by_absence(config, ()), MAY_CHANGE)
    if changed:
        key, (before, now) = next(iter(changed.items()))
        raise InputError(
            f"'{folder}' holds a run with another {key}: set it to {before} again (it is now "
            f"{now}), or choose another hydra.run.dir"
        )


def refuse_epochs(
    earlier: Mapping[str, Any], config: Mapping[str, Any], begun: int, folder: Path
) -> None:
    """Refuse a number of epochs that the run has passed, or that its schedule does not know."""
    before, now = (c["trainer"]["max_epochs"] for c in (earlier, config))
    if now != before and config["optimizer"]["schedule"] not in ENDLESS_SCHEDULES:
        raise InputError(
            f"trainer.max_epochs {now} with optimizer.schedule "
            f"'{config['optimizer']['schedule']}', which the run in '{folder}' has laid over "
            f"{before} epochs: set trainer.max_epochs={before}, or choose another hydra.run.dir"
        )
    if now < min(before, begun):
        raise InputError(
            f"trainer.max_epochs {now} is below the {begun} epochs that the run in '{folder}' has "
            f"begun: set it to {begun} or more"
        )


def warn(message: str) -> None:
    """A remark on the standard error."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
