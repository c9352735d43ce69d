"""Trainings that refine from a step on, or once it pays."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset

from savi.errors import InputError
from savi.experiments.build import build
from savi.experiments.check import check
from savi.inference import refinement
from savi.inference.refinement import WhereScarce
from savi.replicas.configs import plans
from savi.runs.record import Origin
from savi.training import refining
from savi.training.refining import REFINED_FROM, Refining, in_words
from savi.training.step_metrics import training_metrics

SMALL = (
    "experiment=savi", "data.limit=64", "data.batch_size=16", "model.hidden=8",
    "model.latent_dim=3", "evaluation.val_samples=2", "logger=csv",
)  # fmt: skip
STEPS = 4  # of an epoch

# Lightning's own use of torch, where a run is resumed; any other warning fails these tests.
pytestmark = pytest.mark.filterwarnings(r"ignore:.isinstance\(treespec, LeafSpec\).:FutureWarning")


class Figures(pl.Callback):
    """What every validation has logged."""

    def __init__(self):
        self.epochs = []

    def on_validation_end(self, trainer, pl_module):
        metrics = trainer.callback_metrics
        self.epochs.append({name: float(value) for name, value in metrics.items()})


@pytest.fixture
def fit(config, tmp_path):
    """Train for some epochs, from a checkpoint or from scratch, and save one."""

    def run(epochs, *overrides, ckpt_path=None):
        data, module = build(config(*SMALL, *overrides))
        figures = Figures()
        trainer = pl.Trainer(
            max_epochs=epochs, callbacks=[figures], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
            log_every_n_steps=1, inference_mode=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        saved = tmp_path / "saved.ckpt"
        trainer.save_checkpoint(saved)
        return module, figures.epochs, saved

    return run


def same(one, other):
    weights = dict(other.named_parameters())
    return all(torch.equal(weights[name], weight) for name, weight in one.named_parameters())


def test_before_it_begins_training_is_that_of_a_vae(fit):
    amortised, epochs, _ = fit(2, f"inner.when={2 * STEPS}")
    plain, _, _ = fit(2, "experiment=vae")
    assert same(amortised, plain)
    assert amortised.solves.solves == 0
    # Validation refines all the same, so that the gain is known.
    assert all("inner/improvement" in figures for figures in epochs)


def test_it_begins_at_the_step_that_was_asked_for(fit):
    later, _, _ = fit(2, f"inner.when={STEPS + 1}")
    always, _, _ = fit(2)
    assert later.solves.solves == (STEPS - 1) * 16
    assert always.solves.solves == 2 * STEPS * 16
    assert not same(later, always)


@pytest.mark.parametrize("few", [True, False])
def test_auto_counts_the_examples_and_says_what_follows(few, fit, monkeypatch, capsys):
    monkeypatch.setattr(refinement, "SCARCE", 64 if few else 63)
    monkeypatch.setattr(refining, "SCARCE", refinement.SCARCE)
    module, _, _ = fit(2, "inner.when=auto")
    other, _, _ = fit(2, *([] if few else ["experiment=vae"]))
    assert same(module, other)
    assert module.solves.solves == few * 2 * STEPS * 16
    callback = Refining(module.refinement)
    assert callback.last == ({REFINED_FROM: 0.0} if few else {})
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "refine" in line]
    assert said == in_words(module.refinement, 64)
    assert "64 examples are" in said


def test_a_stream_of_examples_counts_as_many(capsys):
    class Stream(IterableDataset):
        """Without a length."""

        def __iter__(self):
            yield torch.zeros(6)

    made = WhereScarce()
    trainer = SimpleNamespace(train_dataloader=DataLoader(Stream()), is_global_zero=True)
    Refining(made).on_train_start(trainer, None)
    assert made.first is None
    assert "does not refine: an unknown number of examples" in capsys.readouterr().out


def refuse_replicas(values):
    plans(values, Path("never"), Origin())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("inner.when=soon",), "inner.when is 'soon': set it to always, auto"),
        (("inner.when=auto", "trainer.replicas=2"), "inner.when 'auto': set inner.when=always"),
        (
            ("inner.when=5", "hypergradient.tune=[gamma]", "model.gamma.mode=fixed"),
            "hypergradient.tune with inner.when '5', by which the training loss changes",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(overrides, message, config):
    values = config(*SMALL, "inner.adapt_lr=false", *overrides)
    judge = check if "trainer.replicas=2" not in overrides else refuse_replicas
    with pytest.raises(InputError, match=message):
        judge(values)


def test_a_solve_of_a_step_that_is_amortised_leaves_no_figures(config):
    data, module = build(config(*SMALL, "inner.when=100"))
    step = module.outer_loss(data.split("train")[:4], 1.0, refine=False)
    assert step.inference.solution is None
    assert step.inference.value is step.inference.init
    assert not any(name.startswith("inner/") for name in training_metrics(
        module.vae, step.bound, step.inference
    ))  # fmt: skip
    assert torch.equal(step.loss, -step.bound.objective(1.0, 0.0))
