"""A step without a finite loss or gradient changes nothing, and is counted and told."""

import json
import math

import pytest
import pytorch_lightning as pl
import torch
from bad_steps import KINDS, breaking

from savi.experiments.build import build
from savi.experiments.checkpoint import STEP_KEY, read_checkpoint
from savi.experiments.run import train
from savi.inference.outer_loss import OuterLoss
from savi.training import SemiAmortizedVAE
from savi.training.finite import all_finite, in_words

SMALL = (
    "data.limit=160", "data.batch_size=16", "model.hidden=8", "model.latent_dim=2",
    "model.depth=1", "inner.max_steps=2", "trainer.threads=1", "trainer.accelerator=cpu",
    "trainer.limit_train_batches=6", "trainer.limit_val_batches=1", "trainer.log_every_n_steps=1",
    "trainer.max_epochs=1", "logger=csv", "callbacks.figures=false", "evaluation.ais_examples=0",
    "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0",
    "evaluation.importance_samples=10",
)  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore:most inner solves diverge"),
    pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning"),
]


@pytest.fixture
def faulty(monkeypatch):
    """Break the n-th outer losses, each in its own way."""
    plain = OuterLoss.__call__

    def break_(faults):
        monkeypatch.setattr(OuterLoss, "__call__", plain)
        monkeypatch.setattr(OuterLoss, "__call__", breaking(faults))

    return break_


def fitted(config, *overrides, callbacks=(), **options):
    """A module after six steps."""
    data, module = build(config(*SMALL, *overrides))
    trainer = pl.Trainer(
        max_epochs=1,
        limit_train_batches=6,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(module, datamodule=data)
    return module, trainer


class Watch(pl.Callback):
    """The whole state before and after each step."""

    def __init__(self):
        self.before, self.after = [], []

    def on_train_batch_start(self, trainer, module, *_):
        self.before.append(state(trainer, module))

    def on_train_batch_end(self, trainer, module, *_):
        self.after.append(state(trainer, module))


def state(trainer, module):
    starts = module.warm_starts
    optimizer = trainer.optimizers[0].state_dict()["state"]
    kept = {f"{i}/{k}": v.clone() for i, own in optimizer.items() for k, v in own.items()}
    own = {name: value.clone() for name, value in module.state_dict().items()}
    table = {} if starts is None else {"starts": starts.table.clone()}
    return own | kept | table | {"solves": torch.tensor(module.solves.solves)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_step_changes_nothing_whatever_is_wrong(config, faulty, capsys, kind):
    faulty({2: kind})
    watch = Watch()
    overrides = (
        "experiment=savi", "model.gamma.mode=optimal", "inner.adapt_lr=true", "inner.max_steps=3",
        "optimizer.weight_decay=0.1",
    )  # fmt: skip
    clip = {"gradient_clip_val": 1.0} if kind == "loss" else {}
    module, _ = fitted(config, *overrides, callbacks=[watch], **clip)
    for number, (before, after) in enumerate(zip(watch.before, watch.after, strict=True)):
        same = before.keys() == after.keys() and all(
            torch.equal(before[name], after[name]) for name in before
        )
        assert same == (number == 2)
    assert module.bad_steps.metrics() == {"train/bad_steps": 1.0}
    assert all(p.isfinite().all() for p in module.parameters())
    told = capsys.readouterr().err
    words = {
        "data": "the loss is nan", "loss": "the loss is inf", "factorisation": "a factorisation",
        "gradient": "the gradient of vae.decoder.trunk.0.weight is not finite",
        "backward": "a factorisation has failed",
    }  # fmt: skip
    assert f"warning: epoch 1: step 2 is left out (number 1): {words[kind]}" in told


@pytest.mark.parametrize("name", ["svi", "savi_ift", "vlae"])
def test_the_other_steps_are_as_ever(config, faulty, name):
    faulty({4: "data"})
    watch = Watch()
    module, _ = fitted(config, f"experiment={name}", callbacks=[watch])
    assert module.bad_steps.first[:2] == ("the loss is nan", 4)
    first = watch.before[4]
    assert all(torch.equal(first[key], watch.after[4][key]) for key in first)
    faulty({})
    again = Watch()
    fitted(config, f"experiment={name}", callbacks=[again])
    for one, other in zip(watch.after[:4], again.after[:4], strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_of_steps_that_are_accumulated_all_are_left_out(config, faulty):
    faulty({1: "data"})
    watch = Watch()
    fitted(config, "experiment=vae", callbacks=[watch], accumulate_grad_batches=3)
    weights = [
        next(iter(one.values())) for one in (watch.before[0], watch.after[2], watch.after[5])
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_one_too_many_ends_the_run_with_the_first_cause_and_its_step(
    config, faulty, tmp_path, capsys
):
    # The seventh call is a validation's.
    faulty({0: "data", 2: "loss", 3: "gradient"})
    run = tmp_path / "run"
    settings = (*SMALL, "experiment=savi_ift", "trainer.max_bad_steps=2")
    with pytest.raises(FloatingPointError, match="max_bad_steps=2") as caught:
        train(config(*settings), run)
    told = str(caught.value)
    assert told.startswith("3 training steps had to be left out (trainer.max_bad_steps=2; ")
    assert f"savi-train replay={run / 'bad_step.ckpt'} shows the first" in told
    assert "): the loss is nan at step 0 in epoch 1: lower optimizer.lr" in told
    assert json.loads((run / "status.json").read_text())["reason"] == told
    kept = read_checkpoint(run / "bad_step.ckpt")[STEP_KEY]
    assert (kept["step"], kept["epoch"], kept["what"]) == (0, 0, "the loss is nan")
    assert kept["x"].shape == (16, 64)


def test_a_run_that_ends_well_tells_how_many(config, faulty, tmp_path, capsys):
    faulty(dict.fromkeys(range(5), "loss"))
    overrides = (*SMALL, "experiment=vae", "trainer.limit_train_batches=10")
    metrics = train(config(*overrides), tmp_path / "run")
    assert metrics["train/bad_steps"] == 5
    assert math.isfinite(metrics["test/elbo"])
    told = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    # Those after the fourth are told where their number is a power of two.
    assert len(told) == 4
    assert "train/bad_steps" in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]


def test_a_training_most_of_whose_steps_are_bad_has_failed(config, faulty, tmp_path):
    # Validation asks for no outer loss.
    faulty(dict.fromkeys(range(6, 10), "loss"))
    match = r"4 of 6 training steps of an epoch .* the loss is inf at step 6 in epoch 2"
    with pytest.raises(FloatingPointError, match=match):
        train(config(*SMALL, "experiment=vae", "trainer.max_epochs=2"), tmp_path / "run")


def test_the_count_is_kept_by_checkpoints(config):
    _, module = build(config(*SMALL, "experiment=vae"))
    state = {"count": 7, "of_epoch": (2, 3), "first": ("the loss is nan", 3, 1)}
    module.bad_steps.load_state_dict(state)
    _, other = build(config(*SMALL, "experiment=vae"))
    other.bad_steps.load_state_dict(module.bad_steps.state_dict())
    assert other.bad_steps.metrics() == {"train/bad_steps": 7.0}
    assert other.bad_steps.state_dict() == state
    assert other.bad_steps in other.configure_callbacks()


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_all_numbers_are_looked_at(default):
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        _all_numbers_are_looked_at()
    finally:
        torch.set_default_dtype(before)


def _all_numbers_are_looked_at():
    tensors = [torch.ones(3).float(), torch.ones(2, 2).double(), torch.ones(2).bfloat16()]
    assert all_finite([])
    assert all_finite(tensors)
    for number in range(3):
        for wrong in (torch.nan, torch.inf, -torch.inf):
            broken = [tensor.clone() for tensor in tensors]
            broken[number].view(-1)[-1] = wrong
            assert not all_finite(broken)
    largest = torch.full((2,), torch.finfo(torch.float32).max, dtype=torch.float32)
    assert all_finite([largest])
    assert largest.tolist() == [torch.finfo(torch.float32).max] * 2
    assert in_words(1.0, ["a", "b", "c"]) == (
        "the gradient of a and of 2 more parameters is not finite"
    )


def test_a_scaled_gradient_that_overflows_is_the_scalers_business(config, monkeypatch):
    data, module = build(config(*SMALL, "experiment=vae"))

    class Plugin:
        class scaler:
            get_scale = staticmethod(lambda: 65536.0)

    class Trainer:
        precision_plugin = Plugin

    monkeypatch.setattr(SemiAmortizedVAE, "trainer", Trainer)
    step = module.outer_loss(data.split("train")[:4], 1.0)
    step.loss.backward()
    next(module.parameters()).grad.fill_(torch.inf)
    assert module._what_is_not_finite(step, None) is None
    Plugin.scaler.get_scale = staticmethod(lambda: 1.0)
    assert "gradient of" in module._what_is_not_finite(step, None)
