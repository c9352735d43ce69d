"""The end of a run: its evaluation, its figures, and what it leaves in its folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from savi.data import TensorDataModule
from savi.errors import InputError
from savi.evaluation import Judgement, evaluate, judge
from savi.experiments.checkpoint import drop_optimizer, load_weights
from savi.experiments.loggers import log_results
from savi.experiments.media import final_media, log_final_media
from savi.report.figures import learning_curves, read_metrics, save
from savi.report.table import shown
from savi.report.wandb import OBJECTIVE
from savi.runs.record import EVALUATION, FIGURES, Record
from savi.runs.whole import write_text
from savi.training.hypergradient.hyperparameters import values
from savi.training.module import SemiAmortizedVAE


def conclude(
    config: Mapping[str, Any],
    folder: Path,
    data: TensorDataModule,
    module: SemiAmortizedVAE,
    of_training: Mapping[str, float],
    loggers: Sequence[Logger],
    record: Record,
    metrics: dict[str, float] | None = None,
) -> dict[str, float]:
    """Evaluate the best epoch of a training that is over, and write down what it is worth.

    The module's weights are replaced by those of the best epoch, whose checkpoint is in the folder.
    If it has been evaluated before, and these are the ``metrics``, only the figures are drawn.

    Returns:
        The contents of ``metrics.json``, those ``of_training`` itself among them.

    Raises:
        FloatingPointError: for figures that no trained model can have, when all is written.
    """
    keep_last = config["callbacks"].get("keep_optimizer", True)
    drop_optimizer(folder / "checkpoints", keep_last=keep_last)
    best = folder / "checkpoints" / "best.ckpt"
    load_weights(module, best if best.is_file() else folder / "checkpoints" / "last.ckpt")
    judgement: Judgement
    if metrics is not None:
        judgement = judge(metrics, module, data)
    else:
        record.enter(EVALUATION)
        with shown("evaluating the best epoch") as progress:
            judgement = evaluation = evaluate(module, data, progress=progress, **course_of(folder))
        tuned = {f"hyper/{name}": value for name, value in values(module, module.tuned).items()}
        metrics = evaluation.metrics | dict(of_training) | tuned
        if "val/elbo" in metrics:
            metrics["val/elbo_data_units"] = metrics["val/elbo"] - data.units.log_scale
        if evaluation.collapse is not None:
            collapse = json.dumps(evaluation.collapse.record(), indent=2)
            write_text(folder / "collapse.json", collapse)
        write_metrics(folder, metrics)
        record.enter(FIGURES)
    step = steps_of(folder) or 0
    log_results(loggers, config, metrics, step)
    if config["callbacks"]["figures"]:
        log_final_media(loggers, final_media(module, data, folder), step)
    judgement.require_plausible()
    if judgement.remark is not None:
        print(f"warning: {judgement.remark}", file=sys.stderr, flush=True)
    return metrics


def course_of(folder: Path) -> dict[str, Any]:
    """What an evaluation is told of the training in a run folder."""
    return {"curve": bound_curve(folder), "steps": steps_of(folder)}


def bound_curve(folder: Path) -> list[float]:
    """The ``val/elbo`` of a run's validations by its ``metrics.csv``; empty if there is none."""
    try:
        curves = read_metrics(folder / "metrics.csv")
    except (InputError, OSError, ValueError):
        return []
    return curves[OBJECTIVE].values.tolist() if OBJECTIVE in curves else []


def steps_of(folder: Path) -> int | None:
    """The steps of a run's training by its ``metrics.csv``; None if that does not tell."""
    try:
        curves = read_metrics(folder / "metrics.csv")
    except (InputError, OSError, ValueError):
        return None
    last = [int(series.steps.max()) for series in curves.values() if len(series.steps)]
    return max(last) + 1 if last else None


def write_metrics(folder: Path, metrics: Mapping[str, float]) -> None:
    """Write ``metrics.json``."""
    write_text(folder / "metrics.json", json.dumps(dict(sorted(metrics.items())), indent=2) + "\n")


def keep_what_there_is(
    folder: Path, loggers: Sequence[Logger], so_far: Mapping[str, float] | None, figures: bool
) -> None:
    """After a signal write the metrics and, with ``figures``, draw the curves so far."""
    for logger in loggers:
        logger.save()
    if so_far is not None:
        write_metrics(folder, so_far)
    curves = folder / "metrics.csv"
    if figures and curves.is_file():
        save(learning_curves(read_metrics(curves)), folder / "figures" / "learning_curves.png")
