"""The checkpoint from which several runs in one process go on together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from savi.errors import InputError
from savi.experiments.checkpoint import CONFIG_KEY, read_checkpoint, write_checkpoint
from savi.experiments.resume import refuse_another, refuse_epochs

#: The file in the folder above those of the runs.
FILE = "replicas.ckpt"


def write_joint_state(folder: Path, config: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Keep the state of all runs; the weights of each are in its own part."""
    # The two keys by which checkpoints are known.
    write_checkpoint(
        folder / FILE, {CONFIG_KEY: dict(config), "state_dict": {}, "training": dict(training)}
    )


def read_joint_state(config: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    """The state from which the runs of this config go on; None if there is none.

    Raises:
        InputError: for runs of another config, and for a checkpoint that is damaged.
    """
    if not (folder / FILE).is_file():
        return None
    checkpoint = read_checkpoint(folder / FILE)
    earlier, training = checkpoint[CONFIG_KEY], checkpoint.get("training")
    if training is None:
        raise InputError(f"'{folder / FILE}' is no state of replicas: remove it, or the folder")
    refuse_another(earlier, config, folder)
    refuse_epochs(earlier, config, training["epoch"] + (training["batch"] > 0), folder)
    return training
