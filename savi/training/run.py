"""A whole run: build, train, evaluate, and leave everything in one folder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from savi.config.check import check
from savi.data import TensorDataModule
from savi.errors import InputError
from savi.evaluation import evaluate
from savi.report.figures import learning_curves, read_metrics, save
from savi.training.callbacks import CostMonitor, build_callbacks
from savi.training.checkpoint import StoreConfig, load_weights
from savi.training.figures import run_figures
from savi.training.gradient_monitor import GradientMonitor
from savi.training.loggers import build_loggers, log_results, quieten_libraries
from savi.training.module import SemiAmortizedVAE


class Interrupted(Exception):
    """Training was stopped by Ctrl-C; what there was has been saved."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"interrupted: checkpoints and metrics so far are in {folder}")


def build(config: Mapping[str, Any]) -> tuple[TensorDataModule, SemiAmortizedVAE]:
    """The data, read and checked, and a fresh model for them.

    Raises:
        InputError: for whatever is wrong with the config or the data.
    """
    check(config)
    if config["trainer"]["threads"] is not None:
        torch.set_num_threads(config["trainer"]["threads"])
    pl.seed_everything(config["seed"], verbose=False)
    data = TensorDataModule(**config["data"])
    data.setup()
    gamma = config["model"]["gamma"]
    if gamma["value"] is None and not data.variance > gamma["floor"]:
        raise InputError(
            f"the training data of '{data.name}' have a variance of {data.variance:.3g}, "
            "where γ would start: check data.path and data.limit, or set model.gamma.value"
        )
    module = SemiAmortizedVAE(
        data_shape=data.shape,
        data_variance=data.variance,
        seed=config["seed"],
        **{
            group: config[group]
            for group in (
                "model",
                "posterior",
                "inner",
                "gradient",
                "encoder_loss",
                "optimizer",
                "evaluation",
            )
        },
    )
    return data, module


def train(config: dict[str, Any], folder: Path) -> dict[str, float]:
    """Train, evaluate the best epoch, and write figures and numbers into ``folder``.

    Args:
        config: a whole run's config as plain values.
        folder: the run folder.

    Returns:
        The contents of ``metrics.json``.

    Raises:
        InputError: before any work is done, for whatever is wrong with config or data.
        Interrupted: after Ctrl-C, when everything so far has been saved.
    """
    quieten_libraries()
    data, module = build(config)
    interactive = os.isatty(1) and config["trainer"]["enable_progress_bar"]
    callbacks, cost = build_callbacks(
        config["callbacks"], str(folder / "checkpoints"), interactive, data, module
    )
    callbacks.append(StoreConfig(config))
    trainer = build_trainer(config["trainer"], data, callbacks, interactive)
    _check_folder(folder)
    print(_headline(config, data, module), flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    # Loggers open files and a wandb run, so they come when nothing can be refused any more.
    trainer.loggers, wandb_logger = build_loggers(config, folder)
    failed = True
    try:
        _fit(trainer, module, data, folder, cost)
        best = folder / "checkpoints" / "best.ckpt"
        print("evaluating the best epoch", flush=True)
        # Lightning has moved it to the CPU.
        module.to(trainer.strategy.root_device)
        load_weights(module, best if best.is_file() else folder / "checkpoints" / "last.ckpt")
        of_training = _certificate(trainer) | _gradient_check(trainer) | cost.metrics()
        metrics = evaluate(module, data) | of_training
        _write(folder, metrics)
        figures = _draw(module, data, folder) if config["callbacks"]["figures"] else []
        log_results(wandb_logger, metrics, figures)
        failed = False
    finally:
        if wandb_logger is not None:
            import wandb

            # Without it a second job of a sweep would write into this job's wandb run.
            wandb.finish(exit_code=int(failed))
    return metrics


def _check_folder(folder: Path) -> None:
    """Refuse to write over another run."""
    if folder.resolve() == Path.cwd():
        raise InputError("hydra.run.dir is the current folder: give the run a folder of its own")
    held = [
        name for name in ("metrics.csv", "metrics.json", "checkpoints") if (folder / name).exists()
    ]
    if held:
        raise InputError(
            f"hydra.run.dir '{folder}' holds a run already ({', '.join(held)}): choose another"
        )


def _headline(config: Mapping[str, Any], data: TensorDataModule, module: SemiAmortizedVAE) -> str:
    """What is about to be trained, in a line."""
    shape = "×".join(map(str, data.shape))
    method = f"gradient {config['gradient']['name']}, {module.inference.max_steps} inner steps"
    parameters = sum(p.numel() for p in module.parameters())
    return (
        f"{config['experiment'] or 'savi'} on {data.name}: {len(data.split('train')):,} training "
        f"examples of {shape}; {module.vae.latent_dim} latents, {parameters:,} parameters; {method}"
    )


def build_trainer(
    config: Mapping[str, Any],
    data: TensorDataModule,
    callbacks: list[pl.Callback],
    progress_bar: bool,
) -> pl.Trainer:
    """Lightning's Trainer, with the options that inner gradients need.

    Raises:
        InputError: for what Lightning does not accept, such as a GPU that is not there.
    """
    batches = -(-len(data.split("train")) // data.batch_size)
    options = {key: value for key, value in config.items() if key not in _NOT_LIGHTNING}
    options["log_every_n_steps"] = min(config["log_every_n_steps"], batches)
    try:
        return pl.Trainer(
            **options,
            devices=1,
            logger=False,
            callbacks=callbacks,
            enable_progress_bar=progress_bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            # Validation and test solve inner problems, which inference mode makes impossible.
            inference_mode=False,
        )
    except (MisconfigurationException, ValueError) as error:
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error


_NOT_LIGHTNING = frozenset({"threads", "enable_progress_bar"})


def _fit(
    trainer: pl.Trainer,
    module: SemiAmortizedVAE,
    data: TensorDataModule,
    folder: Path,
    cost: CostMonitor,
) -> None:
    """Fit; after Ctrl-C write the metrics and the curves so far, then say so."""
    # Lightning turns Ctrl-C into SystemExit, after its callbacks have saved what they hold.
    with contextlib.suppress(SystemExit):
        trainer.fit(module, datamodule=data, weights_only=True)
    if not trainer.interrupted:
        return
    # Lightning ignores further signals from then on; this process goes on to evaluate or to exit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for logger in trainer.loggers:
        logger.save()
    so_far = {name: float(value) for name, value in trainer.callback_metrics.items()}
    _write(folder, so_far | cost.metrics())
    curves = folder / "metrics.csv"
    if curves.is_file():
        save(learning_curves(read_metrics(curves)), folder / "figures" / "learning_curves.png")
    raise Interrupted(folder)


def _certificate(trainer: pl.Trainer) -> dict[str, float]:
    """The last logged certificate of the implicit gradients, if there was one."""
    return {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("ift/")}


def _gradient_check(trainer: pl.Trainer) -> dict[str, float]:
    """The last comparison with a reference gradient, if there was one."""
    monitors = [c for c in trainer.callbacks if isinstance(c, GradientMonitor)]  # type: ignore[attr-defined]
    return monitors[0].last if monitors else {}


def _write(folder: Path, metrics: Mapping[str, float]) -> None:
    (folder / "metrics.json").write_text(json.dumps(dict(sorted(metrics.items())), indent=2) + "\n")


def _draw(module: SemiAmortizedVAE, data: TensorDataModule, folder: Path) -> list[Path]:
    """Write the figures and say where."""
    figures = run_figures(module, data, folder / "metrics.csv")
    return [save(figure, folder / "figures" / f"{name}.png") for name, figure in figures.items()]
