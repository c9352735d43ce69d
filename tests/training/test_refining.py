"""Trainings that refine from a step on, or once it pays."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from savi.errors import InputError
from savi.experiments.check import check
from savi.experiments.run import build
from savi.inference.refinement import WhenItPays
from savi.replicas.configs import plans
from savi.runs.record import Origin
from savi.training.refining import (
    REFINED_FROM,
    REFINING,
    STREAM,
    TRAINED,
    Refining,
    in_words,
)
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


@pytest.fixture
def gains(monkeypatch):
    """Gains of validation examples, one after another, beside 1 nat of training examples."""
    observed = WhenItPays.validated

    def use(values):
        following = iter(values)

        def validated(self, step, gain, trained):
            observed(self, step, next(following), 1.0)

        monkeypatch.setattr(WhenItPays, "validated", validated)

    return use


# Of epochs 5 to 9 the mean is 1.8, of 5 to 10 it is 2.
RISING = [1.0] * 6 + [2.0, 2.0, 3.0, 3.0, *[0.0] * 10]


def test_auto_begins_once_it_pays_and_says_so(fit, gains, capsys):
    gains(RISING)
    module, epochs, _ = fit(12, "inner.when=auto")
    first = module.refinement.first
    assert first == 10 * STEPS
    assert [figures[REFINING] for figures in epochs] == [0.0] * 9 + [1.0] * 3
    assert len(module.refinement.gains) == 10
    assert module.solves.solves == 2 * STEPS * 16
    said = [line for line in capsys.readouterr().out.splitlines() if "refining" in line]
    assert said == [in_words(module.refinement)]
    assert f"refining from step {first} on: it adds 2.0 nats to the bounds of validation" in said[0]
    assert f"and 1.0 to those of training examples; inner.when={first} begins there" in said[0]
    assert Refining(module.refinement).last == {REFINED_FROM: first}


def test_a_resumed_training_begins_alike(fit, gains):
    gains(RISING)
    whole, _, _ = fit(12, "inner.when=auto")
    gains(RISING)
    _, _, saved = fit(7, "inner.when=auto")
    gains(RISING[7:])
    resumed, epochs, _ = fit(12, "inner.when=auto", ckpt_path=saved)
    assert len(epochs) == 5
    assert resumed.refinement.state_dict() == whole.refinement.state_dict()
    assert resumed.refinement.first == 10 * STEPS


def test_the_gains_are_those_of_validation_and_of_training_examples(fit):
    module, epochs, _ = fit(3, "inner.when=auto")
    steps, gains, trained = zip(*module.refinement.gains, strict=True)
    assert list(steps) == [STEPS, 2 * STEPS, 3 * STEPS]
    assert list(gains) == [figures["inner/improvement"] for figures in epochs]
    assert list(trained) == pytest.approx([figures[TRAINED] for figures in epochs], rel=1e-6)


def test_the_training_examples_are_the_first_of_the_data_module(config):
    """Without one, those of the last batch."""
    data, module = build(config(*SMALL, "inner.when=auto"))
    callback = Refining(module.refinement)
    trainer = SimpleNamespace(
        datamodule=data, sanity_checking=False, global_step=4, is_global_zero=True,
        callback_metrics={"inner/improvement": torch.tensor(1.0)},
    )  # fmt: skip
    module.log_dict = lambda *args, **options: None
    expected = []
    for x in (data.split("train")[:16], data.split("val")[:5]):
        _, bound, initial = module.evaluate_batch(x, module.evaluation_noise(STREAM), 2)
        expected.append(float((bound.elbo - initial.elbo).double().mean()))
    callback.on_train_batch_start(trainer, module, data.split("val")[:5], 0)
    callback.on_validation_epoch_end(trainer, module)
    trainer.datamodule = None
    callback.on_train_batch_start(trainer, module, data.split("val")[:5], 1)
    callback.on_validation_epoch_end(trainer, module)
    assert [trained for _, _, trained in module.refinement.gains] == pytest.approx(expected)


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
