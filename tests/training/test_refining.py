"""Trainings that refine from a step on, or once it pays."""

import itertools
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from savi.errors import InputError
from savi.experiments.check import check
from savi.experiments.run import build
from savi.inference.refinement import WhenItPays
from savi.replicas.configs import plans
from savi.runs.record import Origin
from savi.training import refining
from savi.training.refining import PRICE, REFINED_FROM, REFINING, Refining, in_words
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
def clock(monkeypatch):
    """Steps that refine take three times as long, and the gain of every validation is 1 nat."""

    observed = WhenItPays.validated

    def use(bounds):
        rising, times = iter(bounds), itertools.count()
        monkeypatch.setattr(refining, "_now", lambda device: float(next(times)))

        def took(self, step, seconds):
            assert seconds == 1.0
            self.seconds[self.refines(step)].append(3.0 if self.refines(step) else 1.0)

        def validated(self, step, bound, gain):
            observed(self, step, next(rising), 1.0)

        monkeypatch.setattr(WhenItPays, "took", took)
        monkeypatch.setattr(WhenItPays, "validated", validated)

    return use


def test_auto_begins_once_it_pays_and_says_so(fit, clock, capsys):
    # Rises by 100 nats an epoch, and then no more: a slope of 0 is drawn from epochs 6 to 9.
    clock([100.0, 200.0, 300.0, 400.0, 500.0, *[600.0] * 20])
    module, epochs, _ = fit(12, "inner.when=auto")
    first = module.refinement.first
    assert first == 11 * STEPS
    assert [figures[REFINING] for figures in epochs] == [0.0] * 10 + [1.0] * 2
    assert [PRICE in figures for figures in epochs] == [False] * 3 + [True] * 9
    assert epochs[3][PRICE] > 1
    assert epochs[10][PRICE] == pytest.approx(0.0, abs=1e-9)
    # Four steps were timed; then one epoch was left.
    assert module.solves.solves == (4 + STEPS) * 16
    said = [line for line in capsys.readouterr().out.splitlines() if "refining" in line]
    assert said == [in_words_at(module.refinement)]
    assert f"refining from step {first} on: it adds 1.0 nats to validation bounds" in said[0]
    assert f"(a step costs 3.0 of those); inner.when={first} begins there again" in said[0]
    callback = Refining(module.refinement)
    assert callback.last == {REFINED_FROM: first, PRICE: pytest.approx(0.0, abs=1e-9)}


def in_words_at(refinement):
    """What was said at the validation that decided."""
    past = WhenItPays()
    past.load_state_dict(refinement.state_dict())
    past.validations = [entry for entry in past.validations if entry[0] <= past.first]
    return in_words(past)


def test_a_resumed_training_begins_alike(fit, clock):
    bounds = [100.0, 200.0, 300.0, 400.0, 500.0, *[600.0] * 20]
    clock(bounds)
    whole, _, _ = fit(12, "inner.when=auto")
    clock(bounds)
    _, _, saved = fit(7, "inner.when=auto")
    clock(bounds[7:])
    resumed, epochs, _ = fit(12, "inner.when=auto", ckpt_path=saved)
    assert len(epochs) == 5
    assert resumed.refinement.state_dict() == whole.refinement.state_dict()
    assert resumed.refinement.first == 11 * STEPS


def test_the_bound_and_the_gain_are_those_of_the_validation(fit):
    module, epochs, _ = fit(3, "inner.when=auto")
    steps, bounds, gains = zip(*module.refinement.validations, strict=True)
    assert list(steps) == [STEPS, 2 * STEPS, 3 * STEPS]
    assert list(bounds) == [figures["val/elbo"] for figures in epochs]
    assert list(gains) == [figures["inner/improvement"] for figures in epochs]
    assert module.refinement.price >= 1.0


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
