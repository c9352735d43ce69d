"""Loggers whose packages are optional: TensorBoard and MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger

from savi.report.wandb import FIGURES
from savi.runs.whole import write_text
from savi.settings import flatten

#: The file of a run folder with the id of its run in MLflow, so that a run goes on as the same one.
MLFLOW_RUN = "mlflow_run.txt"

#: Where MLflow looks for its server.
URI_VARIABLE = "MLFLOW_TRACKING_URI"


def build_trackers(config: Mapping[str, Any], folder: Path, name: str, group: str) -> list[Logger]:
    """The loggers that a run is to have of these, with its config."""
    logger, built = config["logger"], list[Logger]()
    if logger.get("tensorboard"):
        # One below the other, as in `tensorboard --logdir runs`.
        built.append(TensorBoardLogger(folder, "tensorboard", "", default_hp_metric=False))
    if logger.get("mlflow"):
        begun = (folder / MLFLOW_RUN).is_file()
        built.append(_mlflow(logger["project"], folder, name, group))
        if not begun:
            # It takes no other value for a setting, such as another number of epochs.
            built[-1].log_hyperparams(flatten(dict(config)))
    return built


def _mlflow(project: str, folder: Path, name: str, group: str) -> MLFlowLogger:
    """A run on the server that the environment names, or in a data base beside the run folders."""
    known, shared = folder / MLFLOW_RUN, Path("runs").resolve()
    uri, store = os.environ.get(URI_VARIABLE), None
    if uri is None:
        shared.mkdir(exist_ok=True)
        uri, store = f"sqlite:///{shared / 'mlflow.db'}", (shared / "mlflow").as_uri()
    made = MLFlowLogger(
        project,
        name,
        uri,
        {"group": group},
        artifact_location=store,
        run_id=known.read_text().strip() if known.is_file() else None,
    )
    write_text(known, f"{made.run_id}\n")
    return made


def log_pictures(loggers: Sequence[Logger], pictures: Mapping[str, Path], step: int) -> None:
    """Show image files in those loggers that are of these."""
    for logger in loggers:
        for name, path in pictures.items():
            if isinstance(logger, TensorBoardLogger):
                with Image.open(path) as image:
                    pixels = np.asarray(image.convert("RGB"))
                logger.experiment.add_image(f"{FIGURES}/{name}", pixels, step, dataformats="HWC")
            elif isinstance(logger, MLFlowLogger):
                # Those of epochs lie in folders of their own.
                where = f"{FIGURES}/{path.parent.name}" if path.parent.name != FIGURES else FIGURES
                logger.experiment.log_artifact(logger.run_id, str(path), where)


def log_results(
    loggers: Sequence[Logger], config: Mapping[str, Any], metrics: Mapping[str, float], step: int
) -> None:
    """Hand the final figures to those loggers that are of these, beside the hyperparameters."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            # Its table of runs has the two side by side.
            plain = {key: _plain(value) for key, value in flatten(dict(config)).items()}
            logger.experiment.add_hparams(plain, dict(metrics), run_name=".", global_step=step)
            logger.experiment.flush()
        elif isinstance(logger, MLFlowLogger):
            logger.log_metrics(dict(metrics), step)


def _plain(value: Any) -> bool | float | str:
    """What TensorBoard takes for a hyperparameter."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def finish(loggers: Sequence[Logger], failed: bool) -> None:
    """Close those loggers that are of these, and say whether the run has ended well."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger | MLFlowLogger):
            logger.finalize("failed" if failed else "success")
