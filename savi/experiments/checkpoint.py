"""Checkpoints that carry their whole config, and are read back in safe mode."""

from __future__ import annotations

import io
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from savi.config.stored import check_stored
from savi.data import TensorDataModule
from savi.errors import InputError
from savi.experiments.check_values import EXAMPLE, require_checkpoint
from savi.runs.mappings import Unreadable, check_size
from savi.runs.seal import is_damaged, seal
from savi.runs.stop import STOP
from savi.runs.whole import keep_as, whole
from savi.typed import holds_numbers

CONFIG_KEY = "savi_config"
#: Where that of a training step that was left out holds what the step was made of.
STEP_KEY = "savi_step"
#: Where Lightning keeps what an optimiser knows besides the weights.
OPTIMIZERS_KEY = "optimizer_states"
#: Where Lightning keeps the state of the data module, which is the preprocessing.
DATA_KEY = TensorDataModule.__qualname__


class StoreConfig(Callback):
    """Writes the run's config, as plain values, into every checkpoint."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the config to what Lightning saves."""
        checkpoint[CONFIG_KEY] = self.config


class _Keep(ModelCheckpoint):
    """One checkpoint of a run, written when an epoch is over: training can go on from there."""

    def __init__(self, folder: str, name: str, monitor: str | None = None) -> None:
        super().__init__(
            folder,
            name,
            monitor=monitor,
            mode="max",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where that run was, also if its folder has been moved."""
        before, now = str(state_dict["dirpath"]), str(self.dirpath)
        moved = {
            key: value.replace(before, now) if isinstance(value, str) else value
            for key, value in state_dict.items()
        }
        models = state_dict["best_k_models"].items()
        moved["best_k_models"] = {path.replace(before, now): score for path, score in models}
        super().load_state_dict(moved)
        self.current_score = state_dict["current_score"]


class BestEpoch(_Keep):
    """Keeps the epoch with the highest ``val/elbo`` as ``best.ckpt``."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, "best", monitor="val/elbo")
        self._validated = False
        self._step: int | None = None

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        """Keep the one before it too: should this one be lost, the run can get to it again."""
        if trainer.is_global_zero and (best := Path(filepath)).is_file():
            keep_as(best, best.with_name("best.before.ckpt"))
        self._step = trainer.global_step
        super()._save_checkpoint(trainer, filepath)

    def state_dict(self) -> dict[str, Any]:
        """With the step after which the best epoch was over."""
        return {**super().state_dict(), "step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where that run was."""
        super().load_state_dict(state_dict)
        if self.best_k_models and self.kth_best_model_path not in self.best_k_models:
            raise ValueError("the epoch to beat is none of those that were kept")
        self._step = state_dict.get("step")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at this epoch once it is over."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep it if it is better; of an epoch without a validation nothing is known."""
        if self._validated:
            super().on_train_epoch_end(trainer, pl_module)
        self._validated = False


class LastEpoch(_Keep):
    """Keeps the last epoch as ``last.ckpt``, or a step within a later one.

    That is the step after which a signal stops the training, and before that one every so many
    minutes. A run on several devices, which would not all stop at the same step, keeps its last
    epoch.

    Args:
        folder: of the checkpoints.
        minutes: so much training may be lost by a kill; None for the epoch.
    """

    def __init__(self, folder: str, minutes: float | None = None) -> None:
        super().__init__(folder, "last")
        self.seconds = math.inf if minutes is None else 60 * minutes
        self._saved = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals back from Lightning, which would stop where nothing goes on from."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            STOP.install()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop between two epochs."""
        self._saved = time.monotonic()
        if STOP.asked and trainer.is_global_zero:
            raise KeyboardInterrupt

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Save and stop after a step; not before what belongs to it is done.

        That is a validation, of an epoch or within one, and the rest of an accumulated gradient.
        """
        batches = args[-1] + 1
        validated = trainer.is_last_batch or not batches % trainer.val_check_batch
        if validated or batches % trainer.accumulate_grad_batches:
            return
        due = time.monotonic() - self._saved >= self.seconds
        if trainer.world_size == 1 and (STOP.asked or due):
            self._save_step(trainer)
        if STOP.asked and trainer.is_global_zero:
            raise KeyboardInterrupt

    def _save_step(self, trainer: pl.Trainer) -> None:
        """Save in the middle of an epoch."""
        connector = trainer._logger_connector
        # Lightning hands the figures of a step to the loggers after this hook, ...
        connector.update_train_step_metrics()
        trainer.save_checkpoint(Path(str(self.dirpath)) / "last.ckpt", weights_only=False)
        self._saved = time.monotonic()

        def once_only() -> None:
            del connector.update_train_step_metrics

        # ... which must not be done twice.
        connector.update_train_step_metrics = once_only  # type: ignore[method-assign]


class WholeCheckpoints(TorchCheckpointIO):
    """Has Lightning write its checkpoints whole and sealed, and read them as savi does."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint."""
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint."""
        return read_checkpoint(path)


def write_checkpoint(path: Path, contents: Mapping[str, Any]) -> None:
    """Write a checkpoint whole, with a digest that is checked when it is read."""
    # In memory first: torch does not say what a disk complains of.
    buffer = io.BytesIO()
    torch.save(dict(contents), buffer)
    with whole(path) as part:
        part.write_bytes(buffer.getbuffer())
        seal(part)


def save_weights(
    path: Path,
    module: pl.LightningModule,
    data: TensorDataModule,
    config: Mapping[str, Any],
    epoch: int,
    step: int,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint for evaluation: one of Lightning's, without the state of a training.

    ``more`` is what else it is to hold.
    """
    # Copies: of a view, the whole tensor would be saved.
    contents: dict[str, Any] = {
        "epoch": epoch,
        "global_step": step,
        "pytorch-lightning_version": pl.__version__,
        "state_dict": {name: value.clone() for name, value in module.state_dict().items()},
        module.CHECKPOINT_HYPER_PARAMS_KEY: dict(module.hparams),
        CONFIG_KEY: config,
        DATA_KEY: data.state_dict(),
    }
    write_checkpoint(path, contents | dict(more or {}))


def drop_optimizer(folder: Path, *, keep_last: bool) -> None:
    """Drop from the checkpoints of a training that is over what only going on would need.

    That is the optimisers' state, twice the size of the weights under Adam, and the best epoch
    before the best one. With ``keep_last``, ``last.ckpt`` can be gone on from all the same.
    """
    (folder / "best.before.ckpt").unlink(missing_ok=True)
    for path in [folder / "best.ckpt", *([] if keep_last else [folder / "last.ckpt"])]:
        if path.is_file() and (contents := read_checkpoint(path)).get(OPTIMIZERS_KEY):
            write_checkpoint(path, contents | {OPTIMIZERS_KEY: []})


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a savi checkpoint, read without executing anything in it.

    Raises:
        InputError: if there is no file, or it is not a savi checkpoint.
    """
    file = Path(path)
    require_checkpoint(file)
    if is_damaged(file):
        raise InputError(
            f"checkpoint '{path}' is damaged: its contents are not those that were written, so "
            "give another one"
        )
    with warnings.catch_warnings():
        # About pickle protocols, where the answer is that this is no checkpoint.
        warnings.simplefilter("ignore", UserWarning)
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # The safe reader fails on foreign bytes in any way it likes.
            checkpoint = None
    if not isinstance(checkpoint, dict) or not {CONFIG_KEY, "state_dict"} <= checkpoint.keys():
        raise InputError(
            f"'{path}' is not a checkpoint of savi: give one that savi-train wrote, {EXAMPLE}"
        )
    try:
        check_size(checkpoint)
        check_stored(checkpoint[CONFIG_KEY])
        # A step that was left out may have had any weights.
        _check_weights(checkpoint["state_dict"], finite=STEP_KEY not in checkpoint)
    except (InputError, Unreadable) as error:
        raise InputError(
            f"checkpoint '{path}' was not written by savi-train as it is: {error}"
        ) from error
    return checkpoint


def _check_weights(weights: object, *, finite: bool) -> None:
    """Refuse weights that no training has left.

    Raises:
        InputError: for the first that is no tensor of numbers, or has one that is not ``finite``.
    """
    if not isinstance(weights, dict):
        raise InputError("its weights are no mapping")
    for name, value in weights.items():
        if not isinstance(value, Tensor) or not holds_numbers(value):
            raise InputError(f"its weights '{name}' are no tensor of numbers")
        if finite and value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"its weights '{name}' have NaN or infinite values")


@contextmanager
def restoring(path: Path | None, begun: Callable[[], bool]) -> Iterator[None]:
    """Tell an error that comes before the training of a checkpoint has begun as one of its file.

    Raises:
        InputError: in place of whatever was raised until then.
    """
    try:
        yield
    except (InputError, OSError, MemoryError, FloatingPointError):
        raise
    except Exception as error:
        if path is None or begun():
            raise
        told = type(error).__name__
        # Of these two the message speaks of Python's objects alone.
        if not isinstance(error, TypeError | AttributeError):
            told += f": {' '.join(str(error).split())}"
        raise InputError(
            f"a training cannot go on from '{path}', which lacks what belongs to it ({told}): "
            "choose another hydra.run.dir"
        ) from error


def load_weights(module: pl.LightningModule, path: str | Path) -> None:
    """Put a checkpoint's weights into a module of the same config.

    Raises:
        InputError: if they do not fit.
    """
    put_weights(module, read_checkpoint(path)["state_dict"], path)


def put_weights(module: pl.LightningModule, weights: Mapping[str, Tensor], path: object) -> None:
    """Put weights into a module, which can be one without memory, to see whether they fit.

    Raises:
        InputError: if they do not.
    """
    try:
        with warnings.catch_warnings():
            # That nothing is kept is what is wanted of a module without memory.
            warnings.simplefilter("ignore", UserWarning)
            module.load_state_dict(weights)
        kinds = {name: value.dtype for name, value in module.state_dict().items()}
        for name, value in weights.items():
            if value.is_floating_point() != kinds[name].is_floating_point or value.is_complex():
                raise RuntimeError(f"'{name}' is of type {value.dtype} and not {kinds[name]}")
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise InputError(f"the weights in '{path}' do not fit its config: {problem}") from error
