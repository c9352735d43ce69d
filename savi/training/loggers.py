"""Where a run's figures go: ``metrics.csv`` always, and an offline wandb run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from savi.errors import InputError, unknown_option
from savi.gradients.certificate import CERTIFICATE_WARNINGS
from savi.report.logged import FIGURES
from savi.report.login import has_login
from savi.runs.record import Origin
from savi.training.wandb_run import NAME_LENGTH, start_run

WANDB_MODES = ("offline", "online", "disabled")

#: Characters that the name of a project must not have.
PROJECT_REFUSES = "/\\#?%:"


def build_loggers(
    config: dict[str, Any], folder: Path, origin: Origin
) -> tuple[list[Logger], WandbLogger | None]:
    """The CSV logger, and wandb's if asked for.

    Several runs can be open in one process, each with its own loggers; see :func:`finish`. The
    wandb run lies in the run folder; a link to it in the shared ``logger.folder`` lets
    ``wandb leet`` show all runs together. Of several processes only the first logs to wandb.

    Raises:
        InputError: for what wandb refuses.
    """
    csv = CSVLogger(folder, name="", version="", flush_logs_every_n_steps=50)
    logger = config["logger"]
    if not logger["wandb"] or logger["mode"] == "disabled" or rank_zero_only.rank:  # type: ignore[attr-defined]
        return [csv], None
    run = start_run(config, folder, origin)
    wandb_logger = WandbLogger(experiment=run, project=logger["project"], save_dir=folder)
    return [csv, wandb_logger], wandb_logger


def log_results(logger: WandbLogger | None, metrics: Mapping[str, float]) -> None:
    """Put the final figures into the summary of the wandb run."""
    if logger is None:
        return
    # The best val/elbo among them replaces the nested maximum that wandb keeps: its own sweeps and
    # their plots know plain numbers only.
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
        raise unknown_option("logger.mode", mode, WANDB_MODES)
    if mode == "online" and not has_login():
        raise InputError(
            "logger.mode 'online' without a wandb login: run 'wandb login' or set WANDB_API_KEY, "
            "or set logger.mode=offline"
        )


def quieten_libraries() -> None:
    """Keep out of a run's output what its user can do nothing about; other warnings still show."""
    for category in CERTIFICATE_WARNINGS:
        warnings.filterwarnings("once", category=category)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Torch's forward-mode AD, and Lightning's use of torch's pytrees, call deprecated functions.
    warnings.filterwarnings("ignore", ".*torch.jit.script.*", category=FutureWarning)
    warnings.filterwarnings("ignore", ".*LeafSpec.*", category=FutureWarning)
    # torch.compile looks at the gradient of every input.
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor", category=UserWarning)
    # The run folder holds config.yaml by the time metrics.csv is opened.
    warnings.filterwarnings("ignore", "Experiment logs directory .* exists", category=UserWarning)
