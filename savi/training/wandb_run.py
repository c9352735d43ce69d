"""One wandb run for one training run: its names, its axes, and where it can be found."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any

from savi.errors import InputError
from savi.report.logged import AXES, FIGURES, HISTOGRAMS, OBJECTIVE, STEP
from savi.runs.record import Origin

if TYPE_CHECKING:
    from wandb import Run

#: The most characters that wandb takes.
TAG_LENGTH, NAME_LENGTH = 64, 128


def start_run(config: Mapping[str, Any], folder: Path, origin: Origin) -> Run:
    """Open a run of its own, whatever other runs are open in this process.

    In a sweep its group is the sweep and its job type the setting, so that wandb can average over
    seeds; ``logger.group`` overrides the group. Its notes are the command that repeats the run.

    Raises:
        InputError: for what wandb refuses.
    """
    import wandb

    logger = config["logger"]
    group = logger["group"] or origin.sweep
    try:
        run = wandb.init(
            project=logger["project"],
            name=fitted(logger["name"] or folder.name, NAME_LENGTH),
            group=None if group is None else fitted(group, NAME_LENGTH),
            job_type=fitted(origin.setting or "train", NAME_LENGTH),
            tags=tags(config),
            notes=origin.command or None,
            config=dict(config),
            # Absolute: the service that writes the run may serve other processes from elsewhere.
            dir=str(folder.resolve()),
            mode=logger["mode"],
            settings=wandb.Settings(silent=True, reinit="create_new"),
        )
    except wandb.Error as error:
        raise InputError(f"logger: {error}") from error
    define_axes(run)
    link(Path(run.dir).parent, Path(logger["folder"]))
    return run


def define_axes(run: Run) -> None:
    """Give every curve its axis, and the objective the best epoch as its summary."""
    for axis in dict.fromkeys(AXES.values()):
        run.define_metric(axis, hidden=True)
    for prefix, axis in (AXES | {FIGURES: STEP, HISTOGRAMS: STEP}).items():
        run.define_metric(f"{prefix}/*", step_metric=axis)
    run.define_metric(OBJECTIVE, step_metric=AXES["val"], summary="max")


def tags(config: Mapping[str, Any]) -> list[str]:
    """The user's tags, the method's and the seed's, each once."""
    own = (
        config["experiment"],
        config["data"]["name"],
        config["gradient"]["name"],
        config["posterior"]["name"],
        f"seed-{config['seed']}",
    )
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
