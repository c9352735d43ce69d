"""Where a run's figures go: ``metrics.csv`` always, and an offline wandb run."""

from __future__ import annotations

import logging
import netrc
import os
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from savi.errors import InputError, unknown_option
from savi.gradients.certificate import CERTIFICATE_WARNINGS

WANDB_MODES = ("offline", "online", "disabled")


def build_loggers(config: dict[str, Any], folder: Path) -> tuple[list[Logger], WandbLogger | None]:
    """The CSV logger, and wandb's if asked for.

    The wandb run lies in the run folder; a link to it in the shared ``logger.folder`` lets
    ``wandb leet`` show all runs together.
    """
    csv = CSVLogger(folder, name="", version="", flush_logs_every_n_steps=50)
    logger = config["logger"]
    if not logger["wandb"]:
        return [csv], None
    import wandb

    quiet = wandb.Settings(silent=True)
    # For the whole process: Lightning's logger passes an option that makes wandb warn of it.
    wandb.setup(settings=quiet)
    wandb_logger = WandbLogger(
        project=logger["project"],
        name=logger["name"] or folder.name,
        group=logger["group"],
        tags=[*logger["tags"], *_method_tags(config)],
        save_dir=str(folder),
        # Passed as a keyword: the logger's own `offline` flag changes the process environment.
        mode=logger["mode"],
        job_type="train",
        settings=quiet,
    )
    try:
        wandb_logger.experiment.config.update(config)
    except wandb.Error as error:
        raise InputError(f"logger: {error}") from error
    for prefix in ("train", "val", "inner", "gradient", "ift"):
        wandb_logger.experiment.define_metric(f"{prefix}/*", step_metric="trainer/global_step")
    _link(Path(wandb_logger.experiment.dir).parent, Path(logger["folder"]))
    return [csv, wandb_logger], wandb_logger


def _method_tags(config: dict[str, Any]) -> list[str]:
    return [
        str(tag)
        for tag in (
            config["experiment"],
            config["data"]["name"],
            config["gradient"]["name"],
            config["posterior"]["name"],
        )
        if tag
    ]


def _link(run: Path, shared: Path) -> None:
    """Link the run into the shared folder; a file system without links goes without."""
    link = shared / run.name
    try:
        shared.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(run.resolve(), shared.resolve()), target_is_directory=True)
    except (OSError, NotImplementedError) as error:
        warnings.warn(f"no link to the wandb run in {shared}: {error}", stacklevel=2)


def log_results(logger: WandbLogger | None, metrics: dict[str, float], figures: list[Path]) -> None:
    """Put the final figures into the summary of the wandb run, and the pictures beside them."""
    if logger is None:
        return
    import wandb

    logger.experiment.summary.update(metrics)
    pictures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
    if pictures:
        logger.experiment.log(pictures)


def check_wandb(mode: str) -> None:
    """Refuse a mode that is unknown, or that would stop the run to ask for a login.

    Raises:
        InputError: for an unknown mode, or ``online`` without stored credentials.
    """
    if mode not in WANDB_MODES:
        raise unknown_option("logger.mode", mode, WANDB_MODES)
    if mode == "online" and not _has_credentials():
        raise InputError(
            "logger.mode 'online' without a wandb login: run 'wandb login' or set WANDB_API_KEY, "
            "or set logger.mode=offline"
        )


def _has_credentials() -> bool:
    import wandb

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        known = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return urlsplit(wandb.Settings().base_url).hostname in known


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
