"""The pictures of a model: as files in the run folder, and the same files in its wandb run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from savi.data import TensorDataModule
from savi.experiments import trackers
from savi.experiments.loggers import log_pictures, wandb_of
from savi.experiments.observe import TRAVERSAL, Observed, observe
from savi.report import figures as draw
from savi.report.wandb import (
    CURVATURE,
    EPOCH,
    INNER_STEP,
    STATIONARITY,
    STEP,
    TRACE_ELBO,
    TRACE_STATIONARITY,
)
from savi.training.module import SemiAmortizedVAE


@dataclass(frozen=True)
class Media:
    """The PNG files of a model's figures by name, and what they were drawn from."""

    pictures: dict[str, Path]
    observed: Observed


def final_media(module: SemiAmortizedVAE, data: TensorDataModule, folder: Path) -> Media:
    """Draw all figures of a run into ``figures/`` of its folder, which has its ``metrics.csv``."""
    observed = observe(module, data)
    figures = run_figures(module, data, folder / "metrics.csv", observed)
    return Media(_write(figures, folder / "figures"), observed)


def _write(figures: Mapping[str, Figure], folder: Path) -> dict[str, Path]:
    return {name: draw.save(figure, folder / f"{name}.png") for name, figure in figures.items()}


def log_final_media(loggers: Sequence[Logger], media: Media, step: int) -> None:
    """Log pictures; in wandb histograms too, and the inner solve as a curve over its own steps."""
    trackers.log_pictures(loggers, media.pictures, step)
    if (logger := wandb_of(loggers)) is None:
        return
    log_pictures(logger, media.pictures, histograms(media.observed))
    if media.observed.trace is not None:
        for inner, (elbo, stationarity) in enumerate(zip(*media.observed.trace, strict=True)):
            means = {
                TRACE_ELBO: float(elbo.double().mean()),
                TRACE_STATIONARITY: float(stationarity.double().median()),
            }
            logger.experiment.log({INNER_STEP: inner, **means})


def histograms(observed: Observed) -> dict[str, Any]:
    """The wandb histograms of the inner solves, of what is finite in them."""
    import wandb

    norms, curvature = observed.stationarity, observed.curvature
    values = {STATIONARITY: None if norms is None else norms.log10(), CURVATURE: curvature}
    finite = {k: v[torch.isfinite(v)].tolist() for k, v in values.items() if v is not None}
    return {name: wandb.Histogram(value) for name, value in finite.items() if len(value)}


class MediaMonitor(Callback):
    """Draws the model while it trains, into ``figures/epoch-...`` and the wandb runs.

    Not after the last epoch: the run draws its best one when it ends.
    """

    def __init__(self, data: TensorDataModule, every_n_epochs: int) -> None:
        self.data, self.every_n_epochs = data, every_n_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and log, if it is time."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs or epoch == trainer.max_epochs:
            return
        # Told by the first process to the others, so that all must ask.
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SemiAmortizedVAE)
        observed = observe(pl_module, self.data)
        figures = model_figures(observed, self.data)
        pictures = _write(figures, folder / "figures" / f"epoch-{epoch:04d}")
        moment = {EPOCH: trainer.current_epoch, STEP: trainer.global_step}
        trackers.log_pictures(trainer.loggers, pictures, trainer.global_step)
        if (logger := wandb_of(trainer.loggers)) is not None:
            log_pictures(logger, pictures, moment | histograms(observed))


def run_figures(
    module: SemiAmortizedVAE,
    data: TensorDataModule,
    curves: Path | None,
    observed: Observed | None = None,
) -> dict[str, Figure]:
    """The data, the figures of the model, and the learning curves in a ``metrics.csv``, if any.

    The model is looked at now, unless it was ``observed`` before.
    """
    observed = observe(module, data) if observed is None else observed
    x = data.units.restored(observed.x)
    figures = {"data": draw.image_grid(x, "Test data", shape=data.shape)}
    figures |= model_figures(observed, data)
    if curves is not None and curves.is_file():
        figures["learning_curves"] = draw.learning_curves(draw.read_metrics(curves))
    return figures


def model_figures(observed: Observed, data: TensorDataModule) -> dict[str, Figure]:
    """Reconstructions at λ0 and λK, prior samples, the latent space, and the inner solves."""
    kl = observed.kl
    labels = [
        f"$z_{{{i + 1}}}$" + ("" if kl is None else f", {kl[i]:.3g} nats")
        for i in observed.traversed
    ]
    shown = observed.x, observed.init, observed.final, observed.samples, observed.traversals
    x, init, final, samples, traversals = map(data.units.restored, shown)
    shape = None, data.shape
    figures = {
        "reconstructions": draw.reconstructions(x, init, final, *shape),
        "prior_samples": draw.prior_samples(samples, *shape),
        "latent_traversals": draw.latent_traversals(traversals, TRAVERSAL, labels, *shape),
        "latent_scatter": draw.latent_scatter(observed.means, observed.labels),
    }
    if observed.trace is not None:
        figures["inner_steps"] = draw.elbo_against_inner_step(*observed.trace)
    if observed.stationarity is not None:
        norms, curvature = observed.stationarity, observed.curvature
        figures["inner_histograms"] = draw.inner_histograms(norms, curvature)
    return figures
