"""What loggers would refuse, before a run has done any work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from savi.errors import InputError, unknown_option
from savi.report.wandb import has_login

#: The most characters that wandb takes for a name.
NAME_LENGTH = 128

WANDB_MODES = ("offline", "online", "disabled")

#: The variable of the environment that the configs take the mode from.
MODE_VARIABLE = "WANDB_MODE"

#: Characters that the name of a project must not have.
PROJECT_REFUSES = "/\\#?%:"


#: The keys of the ``logger`` group that turn them on, which are their packages, too.
TRACKERS = ("tensorboard", "mlflow")


def check_wandb(mode: str, project: str) -> None:
    """Refuse a mode that is unknown, or that would stop the run to ask for a login.

    Raises:
        InputError: for an unknown mode, ``online`` without stored credentials, or a name that
            wandb does not take for a project.
    """
    if not project or len(project) > NAME_LENGTH or set(project) & set(PROJECT_REFUSES):
        raise InputError(
            f"logger.project is '{project}': give it 1 to {NAME_LENGTH} characters, none of them "
            f"among {' '.join(PROJECT_REFUSES)}"
        )
    if mode not in WANDB_MODES:
        by_environment = os.environ.get(MODE_VARIABLE) == mode
        name = MODE_VARIABLE if by_environment else "logger.mode"
        raise unknown_option(name, mode, WANDB_MODES)
    if mode == "online" and not has_login():
        raise InputError(
            "logger.mode 'online' without a wandb login: run 'wandb login' or set WANDB_API_KEY, "
            "or set logger.mode=offline"
        )


def check_trackers(logger: Mapping[str, Any]) -> None:
    """Refuse a logger whose package is not installed.

    Raises:
        InputError: with the command that installs it.
    """
    for name in TRACKERS:
        if logger.get(name) and find_spec(name) is None:
            raise InputError(
                f"logger.{name} needs the package {name}, which is not installed: "
                f"pip install {name}, or set logger.{name}=false"
            )
