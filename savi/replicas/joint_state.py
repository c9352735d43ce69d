"""The checkpoint from which several runs in one process go on together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from savi.errors import InputError
from savi.experiments.checkpoint import CONFIG_KEY, read_checkpoint, write_checkpoint
from savi.experiments.resume import refuse_another, refuse_epochs, warn
from savi.replicas.configs import plans
from savi.runs.record import FINISHED, Origin, state_of

#: The file in the folder above those of the runs, and the one that was there before it.
FILE, BEFORE = "replicas.ckpt", "replicas.before.ckpt"


def write_joint_state(folder: Path, config: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Keep the state of all runs, and the one before; the weights of each are in its own part."""
    if (folder / FILE).is_file():
        (folder / FILE).replace(folder / BEFORE)
    # The two keys by which checkpoints are known.
    write_checkpoint(
        folder / FILE, {CONFIG_KEY: dict(config), "state_dict": {}, "training": dict(training)}
    )


def read_joint_state(config: dict[str, Any], folder: Path, origin: Origin) -> dict[str, Any] | None:
    """The state from which the runs of this config go on; None if there is none.

    Nor is there one where the best epoch of a run is lost that has not been evaluated.

    Raises:
        InputError: for runs of another config.
    """
    checkpoint = _newest(folder)
    if checkpoint is None:
        return None
    training = checkpoint["training"]
    refuse_another(checkpoint[CONFIG_KEY], config, folder)
    refuse_epochs(
        checkpoint[CONFIG_KEY], config, training["epoch"] + (training["batch"] > 0), folder
    )
    for plan, own in zip(plans(config, folder, origin), training["runs"], strict=True):
        if own["best"] is None or own["error"] or state_of(plan.folder) == FINISHED:
            continue
        try:
            read_checkpoint(plan.folder / "checkpoints" / "best.ckpt")
        except InputError as error:
            warn(f"{error}: the runs are begun again")
            return None
    return training


def _newest(folder: Path) -> dict[str, Any] | None:
    """The contents of the newest file that is whole; one that is damaged is named."""
    for name in (FILE, BEFORE):
        if (folder / name).is_file():
            try:
                return read_checkpoint(folder / name)
            except InputError as error:
                warn(f"{error}: not used")
    return None
