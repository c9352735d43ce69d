"""What watches over a run."""

import time

import pytest
import pytorch_lightning as pl
import torch

from savi.errors import InputError
from savi.experiments.build import build
from savi.experiments.run import build_callbacks
from savi.training.callbacks import CostMonitor, EpochLines, FiniteLoss

SMALL = ("data.limit=48", "data.batch_size=16", "model.hidden=8", "model.latent_dim=2")


@pytest.fixture
def fit(config):
    """Fit a small run with some callbacks."""

    def run(*callbacks: pl.Callback, overrides: tuple[str, ...] = ("experiment=vae",)):
        data, module = build(config("logger=csv", *SMALL, *overrides))
        trainer = pl.Trainer(
            max_epochs=2,
            logger=False,
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            inference_mode=False,
        )
        trainer.fit(module, datamodule=data)
        return trainer, module

    return run


def test_costs_are_counted_per_example_and_step(fit):
    class Slow(pl.Callback):
        def on_before_zero_grad(self, *_):
            time.sleep(0.02)

    cost = CostMonitor()
    fit(cost, Slow())
    metrics = cost.metrics()
    # An amortised step decodes one code per example; three batches an epoch, two epochs.
    assert metrics["cost/decoder_evaluations"] == 1.0
    assert len(cost.seconds) == 6
    assert metrics["cost/step_seconds"] >= 0.02
    assert metrics["cost/peak_memory_mb"] > 50


@pytest.mark.parametrize(("linear_head", "reference"), [("off", 0), ("auto", 1)])
def test_inner_steps_cost_decoder_evaluations(fit, linear_head, reference):
    cost = CostMonitor()
    overrides = (
        "experiment=vae_svi",
        "inner.optimizer=gd",
        "inner.lr=1e-3",
        "inner.max_steps=3",
        "inner.samples=2",
        "encoder_loss=distill",
        f"inner.linear_head={linear_head}",
    )
    fit(cost, overrides=overrides)
    # Two samples at λ0 and after each of three steps, and one for the outer ELBO; the features of
    # one code are the reference of the linear head.
    assert cost.metrics()["cost/decoder_evaluations"] == 2 * 4 + 1 + reference


def test_a_run_that_has_not_started_has_no_costs():
    assert CostMonitor().metrics() == {}


def test_parameters_that_are_no_numbers_end_the_run(fit):
    class Poison(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            with torch.no_grad():
                next(pl_module.parameters()).fill_(torch.nan)

    with pytest.raises(FloatingPointError, match=r"in epoch 1: lower optimizer\.lr"):
        fit(Poison(), FiniteLoss())


def test_epochs_are_told_line_by_line(fit, capsys):
    fit(EpochLines())
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("val/elbo" in line for line in lines)


def test_early_stopping_is_optional_and_checked(config, tmp_path):
    data, module = build(config("logger=csv", *SMALL))

    def names(patience):
        settings = config()["callbacks"] | {"early_stopping_patience": patience}
        callbacks, _ = build_callbacks(settings, str(tmp_path), False, data, module)
        return [type(callback).__name__ for callback in callbacks]

    assert "EarlyStopping" not in names(None)
    assert "EarlyStopping" in names(3)
    with pytest.raises(InputError, match="early_stopping_patience is 0: set it to 1 or more"):
        build(config("logger=csv", *SMALL, "callbacks.early_stopping_patience=0"))
