"""The pictures of a model, as files and in wandb."""

import math
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from wandb_runs import history_of, records_of, summary_of

from savi.errors import InputError
from savi.experiments.build import build
from savi.experiments.loggers import build_loggers, finish, log_results, quieten_libraries
from savi.experiments.media import (
    MediaMonitor,
    final_media,
    histograms,
    log_final_media,
    run_figures,
)
from savi.experiments.observe import observe
from savi.experiments.run import build_callbacks
from savi.report.wandb import CURVATURE, EPOCH, INNER_STEP, STATIONARITY, STEP
from savi.runs.record import Origin
from savi.training.callbacks import CostMonitor

SMALL = ("data.limit=48", "data.batch_size=16", "model.hidden=8", "model.latent_dim=2")
PICTURES = {
    "reconstructions",
    "prior_samples",
    "latent_traversals",
    "latent_scatter",
    "inner_steps",
    "inner_histograms",
}


def trainer(max_epochs, callbacks, loggers):
    return pl.Trainer(
        max_epochs=max_epochs,
        logger=loggers,
        callbacks=callbacks,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
    )


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A run of two epochs with media in between, its wandb run, and its final media."""
    from hydra import compose, initialize_config_dir

    from savi.config.store import conf_dir, plain

    folder = tmp_path_factory.mktemp("logged")
    with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
        values = plain(compose("config", overrides=[*SMALL, f"logger.folder={folder / 'shared'}"]))
    with warnings.catch_warnings():
        quieten_libraries()
        return _logged(folder, values)


def _logged(folder, values):
    data, module = build(values)
    loggers = build_loggers(values, folder, Origin())
    cost = CostMonitor()
    trainer(2, [cost, MediaMonitor(data, 1)], loggers).fit(module, datamodule=data)
    media = final_media(module, data, folder)
    log_final_media(loggers, media, 6)
    log_results(loggers, values, {"test/elbo": 1.0} | cost.metrics(), 6)
    finish(loggers, False)
    (run,) = (folder / "wandb").glob("offline-run-*")
    return folder, run, media


def test_pictures_are_files_of_the_run(logged):
    folder, _, media = logged
    assert set(media.pictures) == PICTURES | {"data", "learning_curves"}
    for name, path in media.pictures.items():
        assert path == folder / "figures" / f"{name}.png"
        assert path.stat().st_size > 1000
    (early,) = (folder / "figures").glob("epoch-*")
    assert early.name == "epoch-0001"
    assert {path.stem for path in early.iterdir()} == PICTURES


def test_the_same_pictures_are_in_the_wandb_run(logged):
    folder, run, media = logged
    rows = [row for row in history_of(run) if "figures/latent_scatter" in row]
    assert [{key for key in row if key.startswith("figures/")} for row in rows] == [
        {f"figures/{name}" for name in PICTURES},
        {f"figures/{name}" for name in media.pictures},
    ]
    assert (rows[0][EPOCH], rows[0][STEP]) == (0, 3)
    for row, source in zip(rows, ("figures/epoch-0001", "figures"), strict=True):
        picture = row["figures/latent_scatter"]
        assert picture["_type"] == "image-file"
        stored = run / "files" / picture["path"]
        assert stored.read_bytes() == (folder / source / "latent_scatter.png").read_bytes()


def test_histograms_hold_every_finite_value(logged):
    _, run, media = logged
    row = [row for row in history_of(run) if STATIONARITY in row][-1]
    norms = media.observed.stationarity.log10()
    assert row[STATIONARITY]["_type"] == "histogram"
    assert sum(row[STATIONARITY]["values"]) == int(norms.isfinite().sum()) > 0
    assert row[STATIONARITY]["bins"][0] == pytest.approx(float(norms[norms.isfinite()].min()))
    assert sum(row[CURVATURE]["values"]) == len(media.observed.curvature)


def test_the_inner_solve_is_a_curve_over_its_own_steps(logged):
    _, run, media = logged
    rows = [row for row in history_of(run) if INNER_STEP in row]
    elbo, stationarity = media.observed.trace
    assert [row[INNER_STEP] for row in rows] == list(range(len(elbo)))
    assert [row["inner_trace/elbo"] for row in rows] == pytest.approx(elbo.mean(dim=1).tolist())
    assert rows[0]["inner_trace/stationarity"] == 1.0
    median = float(stationarity[-1].double().median())
    assert rows[-1]["inner_trace/stationarity"] == pytest.approx(median)


def test_curves_come_with_their_axes(logged):
    _, run, _ = logged
    axes = {
        metric["glob_name"]: metric["step_metric"]
        for metric in records_of(run, "metric")
        if "glob_name" in metric
    }
    own = {
        metric["name"]: metric["step_metric"]
        for metric in records_of(run, "metric")
        if metric.keys() >= {"name", "step_metric"}
    }
    rows = history_of(run)
    seen = set()
    for row in rows:
        for name in row:
            prefix, slash, _ = name.partition("/")
            if slash and name not in axes.values():
                seen.update([prefix] if name not in own else [])
                assert row.keys() & set(axes.values()), name
                assert own.get(name, axes.get(f"{prefix}/*")) in row, name
    assert {"train", "val", "inner", "ift", "gradient", "inner_trace"} <= seen
    assert all(f"{prefix}/*" in axes for prefix in seen)


def test_the_final_figures_are_in_the_summary(logged):
    summary = summary_of(logged[1])["summary"]
    assert summary["test/elbo"] == 1.0
    assert summary["cost/step_seconds"] > 0


def test_values_that_are_not_finite_are_left_out(config):
    data, module = build(config(*SMALL, "logger=csv"))
    observed = observe(module, data)
    observed.stationarity[:] = 0.0
    observed.curvature[0] = math.nan
    shown = histograms(observed)
    assert set(shown) == {CURVATURE}
    assert sum(shown[CURVATURE].histogram) == len(observed.curvature) - 1


def test_training_goes_on_as_if_nothing_had_been_drawn(config, tmp_path):
    weights = []
    for drawn in (False, True):
        data, module = build(config(*SMALL, "logger=csv"))
        callbacks = [MediaMonitor(data, 1)] if drawn else []
        folder = tmp_path / str(drawn)
        loggers = build_loggers(config("logger=csv"), folder, Origin())
        trainer(2, callbacks, loggers).fit(module, datamodule=data)
        assert (folder / "figures" / "epoch-0001").is_dir() is drawn
        assert not (folder / "figures" / "epoch-0002").exists()
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert weights[0].equal(weights[1])


def test_media_are_optional_and_checked(config, tmp_path):
    data, module = build(config(*SMALL, "logger=csv"))

    def monitors(every):
        settings = config()["callbacks"] | {"media_every_n_epochs": every}
        callbacks, _ = build_callbacks(settings, str(tmp_path), False, data, module)
        return [c for c in callbacks if isinstance(c, MediaMonitor)]

    assert monitors(None) == []
    assert monitors(5)[0].every_n_epochs == 5
    with pytest.raises(InputError, match="media_every_n_epochs is 0: set it to 1 or more"):
        build(config(*SMALL, "logger=csv", "callbacks.media_every_n_epochs=0"))


def test_figures_are_in_the_units_of_the_data(config, tmp_path):
    values = np.random.default_rng(0).normal(size=(60, 5)) * 10 + 1000
    np.save(tmp_path / "data.npy", values)
    data, module = build(
        config(*SMALL, "data=arrays", f"data.path={tmp_path / 'data.npy'}", "data.scale=global",
               "data.limit=null")
    )  # fmt: skip
    observed = observe(module, data)
    assert observed.x.abs().max() < 6
    figures = run_figures(module, data, None, observed)
    for name in ("data", "reconstructions", "prior_samples"):
        lines = [line for axes in figures[name].axes for line in axes.lines]
        drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in lines])
        assert len(drawn) >= 30
        assert ((drawn > 900) & (drawn < 1100)).all()
