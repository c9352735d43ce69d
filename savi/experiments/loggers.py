"""Where a run's figures go: ``metrics.csv`` always, and an offline wandb run."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Mapping
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from savi.errors import InputError
from savi.experiments.check_loggers import MODE_VARIABLE, NAME_LENGTH
from savi.experiments.metrics_log import MetricsLog
from savi.report.wandb import AXES, FIGURES, HISTOGRAMS, OBJECTIVE, STEP
from savi.runs.record import Origin

if TYPE_CHECKING:
    from wandb import Run

#: The most characters that wandb takes for a tag.
TAG_LENGTH = 64

#: How many seconds an online run may take to begin, and to upload its rest when it ends: what is
#: not there yet lies on disk.
BEGIN_SECONDS, END_SECONDS = 10.0, 120.0


def build_loggers(
    config: dict[str, Any], folder: Path, origin: Origin, rows: int = 0
) -> tuple[list[Logger], WandbLogger | None]:
    """The log in ``metrics.csv``, and wandb's if asked for.

    Several runs can be open in one process, each with its own loggers; see :func:`finish`. The
    wandb run lies in the run folder; a link to it in the shared ``logger.folder`` lets
    ``wandb leet`` show all runs together. Of several processes only the first logs to wandb.
    A run that is continued keeps so many ``rows`` of its ``metrics.csv``.

    Raises:
        InputError: for what wandb refuses.
    """
    csv = MetricsLog(folder, rows)
    logger = config["logger"]
    if not logger["wandb"] or logger["mode"] == "disabled" or rank_zero_only.rank:  # type: ignore[attr-defined]
        return [csv], None
    run = start_run(config, folder, origin)
    wandb_logger = WandbLogger(experiment=run, project=logger["project"], save_dir=folder)
    return [csv, wandb_logger], wandb_logger


def log_results(logger: WandbLogger | None, metrics: Mapping[str, float]) -> None:
    """Put the final figures into the summary of the wandb run."""
    # The best val/elbo among them replaces the nested maximum that wandb keeps: its own sweeps and
    # their plots know plain numbers only.
    if logger is not None:
        logger.experiment.summary.update(metrics)


def log_pictures(
    logger: WandbLogger, pictures: Mapping[str, Path], also: Mapping[str, Any] | None = None
) -> None:
    """Log image files under ``figures/``, and whatever belongs to the same moment."""
    import wandb

    images = {f"{FIGURES}/{name}": wandb.Image(str(path)) for name, path in pictures.items()}
    if images:
        logger.experiment.log(images | dict(also or {}))


def finish(logger: WandbLogger | None, failed: bool) -> None:
    """Close this wandb run, and no other, with exit code 1 if it failed or was interrupted."""
    if logger is not None:
        logger.experiment.finish(exit_code=int(failed))


def quieten_libraries() -> None:
    """Keep out of a run's output what its user can do nothing about; other warnings still show."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message, kind in (
        # Torch's forward-mode AD, and Lightning's use of torch's pytrees, call what is deprecated.
        (".*torch.jit.script.*", FutureWarning),
        (".*LeafSpec.*", FutureWarning),
        # torch.compile looks at the gradient of every input.
        ("The .grad attribute of a Tensor", UserWarning),
        # A run that goes on has checkpoints there.
        ("Checkpoint directory .* exists and is not empty", UserWarning),
    ):
        warnings.filterwarnings("ignore", message, category=kind)


def start_run(config: Mapping[str, Any], folder: Path, origin: Origin) -> Run:
    """Open a run of its own, whatever other runs are open in this process.

    In a sweep its group is the sweep and its job type the setting, so that wandb can average over
    seeds; ``logger.group`` overrides the group. Its notes are the command that repeats the run.
    Where an online run cannot begin, it is an offline one, which a line says.

    Raises:
        InputError: for what wandb refuses.
    """
    mode, asked = config["logger"]["mode"], os.environ.get(MODE_VARIABLE)
    if asked and asked != mode:
        _warn(f"logger.mode={mode} counts, and not {MODE_VARIABLE}={asked}: leave out one of them")
    # It would tell wandb of errors and speed, offline too, and complain where it cannot.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    before = set((folder / "wandb").glob("*"))
    try:
        try:
            # Whoever has no key that can be found is not asked for one.
            wandb.setup(wandb.Settings(silent=True, mode=mode))
            if mode == "online" and not wandb.login(prompt=False, verify=False):
                raise wandb.Error("there is no key")
            run = _init(config, folder, origin, mode)
        except wandb.Error as error:
            if mode != "online":
                raise
            for left in set((folder / "wandb").glob("*")) - before:
                shutil.rmtree(left, ignore_errors=True)
            _warn(
                f"wandb cannot be used online ({_brief(error)}): this run is logged offline; "
                f"'savi-report sync-help {folder}' says how to upload it"
            )
            run = _init(config, folder, origin, "offline")
    except (wandb.Error, ValueError) as error:
        # Of a variable of the environment it says so in several lines.
        raise InputError(f"logger: wandb refuses {_brief(error)}") from error
    define_axes(run)
    link(Path(run.dir).parent, Path(config["logger"]["folder"]))
    return run


def _init(config: Mapping[str, Any], folder: Path, origin: Origin, mode: str) -> Run:
    import wandb

    logger, earlier = config["logger"], earlier_id(folder)
    group = logger["group"] or origin.sweep
    return wandb.init(
        project=logger["project"],
        name=fitted(logger["name"] or folder.name, NAME_LENGTH),
        group=None if group is None else fitted(group, NAME_LENGTH),
        job_type=fitted(origin.setting or "train", NAME_LENGTH),
        tags=tags(config),
        notes=origin.command or None,
        config=dict(config),
        # Absolute: the service that writes the run may serve other processes from elsewhere.
        dir=str(folder.resolve()),
        # A run that goes on is the same run; its offline parts come together when synced.
        id=earlier,
        resume=None if earlier is None else "allow",
        mode=cast(Any, mode),
        settings=wandb.Settings(
            silent=True,
            reinit="create_new",
            init_timeout=BEGIN_SECONDS,
            finish_timeout=END_SECONDS,
        ),
    )


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _brief(error: Exception) -> str:
    """The first lines of an error, which say it, on one."""
    text = " ".join(str(error).split("For further information")[0].split())
    return textwrap.shorten(text or type(error).__name__, 200)


def earlier_id(folder: Path) -> str | None:
    """The id of the wandb run that an earlier start has left in a run folder, if there is one."""
    runs = sorted((folder / "wandb").glob("*run-*-*"))
    return runs[-1].name.rpartition("-")[2] if runs else None


def define_axes(run: Run) -> None:
    """Give every curve its axis, and the objective the best epoch as its summary."""
    for axis in dict.fromkeys(AXES.values()):
        run.define_metric(axis, hidden=True)
    for prefix, axis in (AXES | {FIGURES: STEP, HISTOGRAMS: STEP}).items():
        run.define_metric(f"{prefix}/*", step_metric=axis)
    run.define_metric(OBJECTIVE, step_metric=AXES["val"], summary="max")


def tags(config: Mapping[str, Any]) -> list[str]:
    """The user's tags, the method's and the seed's, each once."""
    names = [config[group]["name"] for group in ("data", "gradient", "posterior")]
    own = (config["experiment"], *names, f"seed-{config['seed']}")
    given = [str(tag) for tag in (*config["logger"]["tags"], *own) if tag]
    return list(dict.fromkeys(fitted(tag, TAG_LENGTH) for tag in given))


def fitted(text: str, length: int) -> str:
    """The text, cut where it is too long; a digest keeps cut texts apart."""
    if len(text) <= length:
        return text
    digest = sha1(text.encode()).hexdigest()[:8]
    return f"{text[: length - len(digest) - 1]}~{digest}"


def link(run: Path, shared: Path) -> None:
    """Link the run into the shared folder, and remove links to runs that have been deleted.

    A file system without links goes without.
    """
    try:
        shared.mkdir(parents=True, exist_ok=True)
        for old in shared.glob("*run-*"):
            if old.is_symlink() and not old.exists():
                # Another run may have been faster.
                old.unlink(missing_ok=True)
        target = os.path.relpath(run.resolve(), shared.resolve())
        (shared / run.name).symlink_to(target, target_is_directory=True)
    except (OSError, NotImplementedError) as error:
        warnings.warn(f"no link to the wandb run in {shared}: {error}", stacklevel=2)
