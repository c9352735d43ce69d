"""A whole run: build, train, evaluate, and leave everything in one folder."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from savi.data import TensorDataModule
from savi.data.suitability import few_values, unusual_scale
from savi.errors import InputError
from savi.experiments.build import build
from savi.experiments.checkpoint import (
    STEP_KEY,
    BestEpoch,
    LastEpoch,
    StoreConfig,
    restoring,
    save_weights,
)
from savi.experiments.conclude import conclude, keep_what_there_is
from savi.experiments.devices import led
from savi.experiments.loggers import build_loggers, finish, quieten_libraries
from savi.experiments.media import MediaMonitor
from savi.experiments.resume import AUTO, Progress, followed, progress
from savi.experiments.trainer import build_trainer
from savi.experiments.training_state import TrainingState
from savi.runs.folder import claimed, contents
from savi.runs.record import (
    BAD_STEP,
    FIGURES,
    TRAINING,
    Interrupted,
    Origin,
    Record,
    recorded,
)
from savi.runs.stop import STOP
from savi.training.aggressive_encoder import AggressiveEncoder
from savi.training.callbacks import (
    CostMonitor,
    EpochLines,
    EpochWarnings,
    FiniteLoss,
    KeepRandomState,
)
from savi.training.divergence import factorised
from savi.training.gradient_monitor import GradientMonitor
from savi.training.hypergradient.tuner import HypergradientTuner
from savi.training.module import SemiAmortizedVAE
from savi.training.progress_bar import RunProgressBar
from savi.training.refining import Refining
from savi.vae.likelihoods import GaussianLikelihood


def build_again(
    config: Mapping[str, Any], folder: Path, preprocessing: dict[str, Any] | None
) -> tuple[TensorDataModule, SemiAmortizedVAE]:
    """The same for a run in a folder, which may have begun with a preprocessing.

    Raises:
        InputError: for other data than it began with, too.
    """
    data, module = build(config, preprocessing)
    if not data.known:
        raise InputError(
            f"the data of '{data.name}' are not those that the run in '{folder}' began with: give "
            "it those again, or choose another hydra.run.dir"
        )
    return data, module


def allow_bad_steps(
    config: Mapping[str, Any], folder: Path, data: TensorDataModule, module: SemiAmortizedVAE
) -> None:
    """Have a run end if it leaves out too many steps, and keep the first for ``replay``."""

    def keep(file: Path, step: Mapping[str, Any]) -> None:
        epoch, number = step["epoch"], step["step"]
        save_weights(file, module, data, config, epoch, number, {STEP_KEY: dict(step)})

    bad = module.bad_steps
    bad.most, bad.file, bad.keep = config["trainer"]["max_bad_steps"], folder / BAD_STEP, keep


@dataclass(frozen=True)
class Run:
    """A run with everything built, and nothing done or written yet.

    The config is a whole run's as plain values, the trainer is without loggers, and ``cost`` is its
    callback that counts the cost.
    """

    config: Mapping[str, Any]
    folder: Path
    data: TensorDataModule
    module: SemiAmortizedVAE
    trainer: pl.Trainer
    cost: CostMonitor
    state: TrainingState
    progress: Progress | None = None

    @classmethod
    def build(cls, config: dict[str, Any], folder: Path, progress: Progress | None = None) -> Run:
        """Build it, for a run that begins or for one that has come so far.

        Raises:
            InputError: for whatever is wrong with config or data.
        """
        quieten_libraries()
        fitted = None if progress is None else progress.preprocessing
        data, module = build_again(config, folder, fitted)
        interactive = sys.stdout.isatty() and config["trainer"]["enable_progress_bar"]
        callbacks, cost = build_callbacks(
            config["callbacks"], str(folder / "checkpoints"), interactive, data, module
        )
        if module.tuned:
            # First, so that it runs before the clock of the cost monitor starts.
            callbacks.insert(0, HypergradientTuner(config["hypergradient"], data, config["seed"]))
        allow_bad_steps(config, folder, data, module)
        state = TrainingState()
        callbacks = [state, *callbacks, StoreConfig(config), KeepRandomState()]
        trainer = build_trainer(config["trainer"], data, callbacks, interactive, folder)
        return cls(config, folder, data, module, trainer, cost, state, progress)

    def fit(self) -> None:
        """Train, and part from the other devices; a signal sets ``trainer.interrupted``."""
        checkpoint = None if self.progress is None else self.progress.checkpoint
        # Lightning turns Ctrl-C into SystemExit.
        with (
            contextlib.suppress(SystemExit),
            factorised(self.data, lambda: self.trainer.current_epoch),
            restoring(checkpoint, lambda: self.state.begun),
            STOP.patient(),
            led(self.trainer),
        ):
            self.trainer.fit(
                self.module, datamodule=self.data, ckpt_path=checkpoint, weights_only=True
            )
        # Lightning ignores further signals after the first one.
        STOP.install()
        # After a signal Lightning has ended the other devices: nobody would answer.
        if dist.is_available() and dist.is_initialized() and not self.trainer.interrupted:
            dist.barrier()
            dist.destroy_process_group()

    def execute(self, origin: Origin, record: Record) -> dict[str, float]:
        """Train, evaluate the best epoch, and write figures and numbers into the folder.

        What an earlier start has done of it is not done again.

        Returns:
            The contents of ``metrics.json``.

        Raises:
            Interrupted: after a signal, when everything so far has been saved.
        """
        config, folder, trainer, done = self.config, self.folder, self.trainer, self.progress
        print(_headline(config, self.data, self.module), flush=True)
        for remark in origin.remarks:
            print(f"warning: {remark}", file=sys.stderr, flush=True)
        if done is None:
            warn_of_data(self.data, self.module)
        # Loggers open files and a wandb run, so they come when nothing can be refused any more.
        rows = 0 if done is None else done.rows
        trainer.loggers = build_loggers(dict(config), folder, origin, rows)
        metrics = None if done is None else done.metrics
        with finishing(trainer.loggers):
            try:
                if metrics is None:
                    record.enter(TRAINING)
                    self.fit()
                    if trainer.interrupted or STOP.asked:
                        raise KeyboardInterrupt
                # Lightning has moved it to the CPU.
                self.module.to(trainer.strategy.root_device)
                subject = config, folder, self.data, self.module
                return conclude(*subject, self._of_training(), trainer.loggers, record, metrics)
            except KeyboardInterrupt:
                logged = trainer.callback_metrics.items()
                so_far = {k: float(v) for k, v in logged} | self._of_training()
                # Once the run has been evaluated, its metrics are written.
                evaluated = record.content["stage"] == FIGURES
                kept = None if evaluated else so_far
                draw = config["callbacks"]["figures"]
                keep_what_there_is(folder, trainer.loggers, kept, draw)
                raise Interrupted(folder, origin.again) from None

    def _of_training(self) -> dict[str, float]:
        """What a training has to say, apart from what an evaluation finds.

        That is the ``val/elbo`` of the best epoch, by which sweeps choose, the totals of cost and
        inner solves, and of the rest what was last logged: the certificate of the implicit
        gradients, the comparison with a reference gradient, the step in the hyperparameters, and
        when refinement began, those that there were.
        """
        best = self.trainer.checkpoint_callback
        assert isinstance(best, ModelCheckpoint)
        score = best.best_model_score
        figures = {} if score is None else {"val/elbo": float(score)}
        figures |= self.state.metrics(self.trainer)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GradientMonitor | HypergradientTuner | Refining):
                figures |= callback.last
        counted = self.module.solves.metrics() | self.module.bad_steps.metrics()
        return figures | self.cost.metrics() | counted


def train(
    config: dict[str, Any], folder: Path, origin: Origin | None = None
) -> dict[str, float] | None:
    """A whole run, of a config as plain values, in a folder of its own.

    With ``resume`` a run that the folder holds goes on where it was, to the result that it would
    have had; one that has finished is left as it is, unless it is to train for more epochs.

    Returns:
        The contents of ``metrics.json``; None on the devices of a data-parallel run that only
        train, all but the first.

    Raises:
        InputError: before any work is done, for whatever is wrong with config, data or folder.
        Interrupted: after a signal, when everything so far has been saved.
    """
    origin, wanted = origin or Origin(), config.get("resume")
    if getattr(rank_zero_only, "rank", 0) > 0:
        done = None if wanted is None else followed(config, folder)
        Run.build(config, folder, done).fit()
        return None
    with STOP.handled():
        if wanted is None or (wanted == AUTO and not contents(folder)):
            run = Run.build(config, folder)
            with claimed(folder, again=False), recorded(folder, origin, config) as record:
                return run.execute(origin, record)
        with claimed(folder, again=True):
            return go_on(config, folder, origin)


def go_on(
    config: dict[str, Any], folder: Path, origin: Origin, *, job: bool = False
) -> dict[str, float]:
    """A whole run in a folder that this process holds, from where an earlier start has left it.

    Args:
        config: of the run.
        folder: where it lies, or is to lie.
        origin: how it was started.
        job: see :func:`savi.experiments.resume.progress`.

    Returns:
        The contents of ``metrics.json``.
    """
    done = progress(config, folder, job=job)
    if done is not None and done.finished:
        assert done.metrics is not None
        print(f"the run in {folder} had finished before", flush=True)
        return done.metrics
    run = Run.build(config, folder, done)
    with recorded(folder, origin, config) as record:
        return run.execute(origin, record)


def _headline(config: Mapping[str, Any], data: TensorDataModule, module: SemiAmortizedVAE) -> str:
    """What is about to be trained, in a line."""
    shape = "×".join(map(str, data.shape))
    method = f"gradient {config['gradient']['name']}, {module.inference.max_steps} inner steps"
    parameters = sum(p.numel() for p in module.parameters())
    return (
        f"{config['experiment'] or 'savi'} on {data.name}: {len(data.split('train')):,} training "
        f"examples of {shape}; {module.vae.latent_dim} latents, {parameters:,} parameters; {method}"
    )


def warn_of_data(data: TensorDataModule, module: SemiAmortizedVAE) -> None:
    """Say before a training where a density, or the usual weights, do not fit the data."""
    likelihood = module.vae.likelihood
    if likelihood.support in ("binary", "levels"):
        return
    free = isinstance(likelihood, GaussianLikelihood) and likelihood.gamma.free
    for remark in (few_values(data, free), unusual_scale(data)):
        if remark is not None:
            print(f"warning: {remark}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def finishing(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close the logs at the end, and say there whether the run ended well."""
    failed = True
    try:
        yield
        failed = False
    finally:
        finish(loggers, failed)


def build_callbacks(
    config: Mapping[str, Any],
    checkpoints: str,
    progress_bar: bool,
    data: TensorDataModule,
    module: SemiAmortizedVAE,
) -> tuple[list[Callback], CostMonitor]:
    """The callbacks of a run; ``best.ckpt`` is the epoch with the highest val/elbo.

    ``last.ckpt`` is the last epoch, also where its val/elbo is lower or it has none, or a step
    after it.

    Raises:
        InputError: for a gradient check that does not fit the module.
    """
    cost = CostMonitor()
    callbacks: list[Callback] = [
        cost,
        FiniteLoss(),
        EpochWarnings(),
        BestEpoch(checkpoints),
        LastEpoch(checkpoints, config["checkpoint_every_n_minutes"]),
        RunProgressBar() if progress_bar else EpochLines(),
    ]
    if (most := config["aggressive_encoder_steps"]) is not None:
        # After the cost monitor, whose clock it belongs to.
        callbacks.append(AggressiveEncoder(most))
    if (patience := config["early_stopping_patience"]) is not None:
        callbacks.append(EarlyStopping("val/elbo", patience=patience, mode="max"))
    if (every := config["media_every_n_epochs"]) is not None:
        callbacks.append(MediaMonitor(data, every))
    if (every := config["gradient_check_every_n_steps"]) is not None:
        probe = data.rows("val")[: config["gradient_check_examples"]]
        monitor = GradientMonitor(module, probe, every, config["gradient_check_reference"])
        # First, so that it runs before the clock of the cost monitor starts.
        callbacks.insert(0, monitor)
    return callbacks, cost
