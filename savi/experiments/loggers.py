"""Where a run's figures go: ``metrics.csv`` always, an offline wandb run, and other loggers."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from savi.errors import InputError
from savi.experiments import trackers
from savi.experiments.check_loggers import MODE_VARIABLE, NAME_LENGTH
from savi.experiments.metrics_log import MetricsLog
from savi.experiments.reachable import unreachable
from savi.experiments.trackers import build_trackers
from savi.report.wandb import (
    AXES,
    FIGURES,
    FIRST_PANELS,
    HISTOGRAMS,
    OBJECTIVE,
    STEP,
    axis,
)
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
) -> list[Logger]:
    """The log in ``metrics.csv``, and those that are asked for.

    Several runs can be open in one process, each with its own loggers; see :func:`finish`. The
    wandb run lies in the run folder; a link to it in the shared ``logger.folder`` lets
    ``wandb leet`` show all runs together. Of several processes only the first has the others.
    A run that is continued keeps so many ``rows`` of its ``metrics.csv``.

    Raises:
        InputError: for what wandb refuses.
    """
    csv = MetricsLog(folder, rows)
    logger = config["logger"]
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return [csv]
    name, group = run_name(config, folder, origin), group_name(config, origin)
    loggers = [csv, *build_trackers(config, folder, name, group)]
    if logger["wandb"] and logger["mode"] != "disabled":
        run = start_run(config, folder, origin)
        loggers.append(PanelsFirst(experiment=run, project=logger["project"], save_dir=folder))
    return loggers


class PanelsFirst(WandbLogger):
    """Logs the curves that matter most under names that come first, too."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log to wandb."""
        first = {FIRST_PANELS[name]: metrics[name] for name in metrics if name in FIRST_PANELS}
        super().log_metrics({**metrics, **first}, step)


def wandb_of(loggers: Sequence[Logger]) -> WandbLogger | None:
    """The logger of the wandb run, if there is one."""
    return next((logger for logger in loggers if isinstance(logger, WandbLogger)), None)


def log_results(
    loggers: Sequence[Logger], config: Mapping[str, Any], metrics: Mapping[str, float], step: int
) -> None:
    """Hand the final figures to the loggers; wandb has them in the summary of its run."""
    # The best val/elbo among them replaces the nested maximum that wandb keeps: its own sweeps and
    # their plots know plain numbers only.
    if (logger := wandb_of(loggers)) is not None:
        logger.experiment.summary.update(metrics)
    trackers.log_results(loggers, config, metrics, step)


def log_pictures(
    logger: WandbLogger, pictures: Mapping[str, Path], also: Mapping[str, Any] | None = None
) -> None:
    """Log image files under ``figures/``, and whatever belongs to the same moment."""
    import wandb

    images = {f"{FIGURES}/{name}": wandb.Image(str(path)) for name, path in pictures.items()}
    if images:
        logger.experiment.log(images | dict(also or {}))


def finish(loggers: Sequence[Logger], failed: bool) -> None:
    """Close the logs of this run, and no other's, as those of one that failed or ended well."""
    trackers.finish(loggers, failed)
    if (logger := wandb_of(loggers)) is not None:
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

    Its group is method and data, in a sweep the sweep, and its job type there the setting, so that
    wandb can average over seeds; ``logger.group`` overrides the group. Its notes are the command
    that repeats the run. Where an online run cannot begin, it is an offline one, which a line says.

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
            setup = wandb.setup(wandb.Settings(silent=True, mode=mode))
            if mode == "online":
                if not wandb.login(prompt=False, verify=False):
                    raise wandb.Error("there is no key")
                server = setup.settings.base_url
                if why := unreachable(f"{server}/graphql"):
                    raise wandb.Error(f"{server} cannot be reached: {why}")
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
    return wandb.init(
        project=logger["project"],
        name=fitted(run_name(config, folder, origin), NAME_LENGTH),
        group=fitted(group_name(config, origin), NAME_LENGTH),
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


def run_name(config: Mapping[str, Any], folder: Path, origin: Origin) -> str:
    """Method, data and seed of a run; of a job, what the sweep has it differ in as well."""
    if config["logger"]["name"]:
        return str(config["logger"]["name"])
    seed = f"seed-{config['seed']}"
    own = seed if origin.sweep is None else folder.name
    parts = [method_and_data(config), own, *([] if seed in own else [seed])]
    return "_".join(parts)


def group_name(config: Mapping[str, Any], origin: Origin) -> str:
    """What a run is grouped by: its sweep, or what it has in common with those of other seeds."""
    return config["logger"]["group"] or origin.sweep or method_and_data(config)


def method_and_data(config: Mapping[str, Any]) -> str:
    """What runs have in common that differ in their seeds."""
    return f"{config['experiment'] or config['gradient']['name']}_{config['data']['name']}"


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _brief(error: Exception) -> str:
    """The first lines of an error, which say it, on one."""
    text = " ".join(str(error).split("For further information")[0].split())
    if text == "<no message>":
        # So wandb calls the empty answer of a server that refuses a request.
        text = "its server refuses without a reason: is the key right?"
    return textwrap.shorten(text or type(error).__name__, 200)


def earlier_id(folder: Path) -> str | None:
    """The id of the wandb run that an earlier start has left in a run folder, if there is one."""
    runs = sorted((folder / "wandb").glob("*run-*-*"))
    return runs[-1].name.rpartition("-")[2] if runs else None


def define_axes(run: Run) -> None:
    """Give every curve its axis, and the objective the best epoch as its summary."""
    for name in dict.fromkeys(AXES.values()):
        run.define_metric(name, hidden=True)
    for prefix, against in (AXES | {FIGURES: STEP, HISTOGRAMS: STEP}).items():
        run.define_metric(f"{prefix}/*", step_metric=against)
    for name, panel in FIRST_PANELS.items():
        run.define_metric(panel, step_metric=axis(name), summary="none")
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
