"""Aggressive training of the encoder, against its published rules (He et al. 2019)."""

import pytest
import pytorch_lightning as pl
import torch

from savi.errors import InputError
from savi.experiments.build import build
from savi.experiments.check import check
from savi.experiments.training_state import TrainingState
from savi.training import aggressive_encoder
from savi.training.aggressive_encoder import WINDOW, AggressiveEncoder, Plateau

SMALL = (
    "experiment=vae", "data.limit=60", "data.batch_size=20", "model.hidden=8",
    "model.latent_dim=3", "logger=csv", "optimizer.lr=0.01",
)  # fmt: skip


@pytest.fixture
def fit(config, tmp_path):
    """Train for some epochs, from a checkpoint or from scratch, and save one."""

    def run(epochs: int, callback: AggressiveEncoder, *others: pl.Callback, ckpt_path=None):
        data, module = build(config(*SMALL))
        trainer = pl.Trainer(
            max_epochs=epochs, callbacks=[TrainingState(), callback, *others], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            accelerator="cpu", inference_mode=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        saved = tmp_path / "saved.ckpt"
        trainer.save_checkpoint(saved)
        return module, saved

    return run


def copy(module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


class Watched(pl.Callback):
    """The weights when a batch begins, after the encoder's own updates, and when it ends."""

    def __init__(self) -> None:
        self.moved: list[tuple[set[str], set[str]]] = []

    def on_train_start(self, trainer, pl_module) -> None:
        self.before = copy(pl_module)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.between = copy(pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        after = copy(pl_module)

        def changed(one: dict, other: dict) -> set[str]:
            return {
                name.partition(".")[0] for name in one if not torch.equal(one[name], other[name])
            }

        self.moved.append((changed(self.before, self.between), changed(self.between, after)))
        self.before = after


def series(monkeypatch, values: list[float]) -> None:
    left = iter(values)
    monkeypatch.setattr(aggressive_encoder, "mutual_information", lambda q, noise: next(left))


def test_an_inner_loop_ends_where_the_mean_loss_of_a_window_rises():
    def updates(losses: list[float]) -> int:
        plateau = Plateau()
        return next(n for n, loss in enumerate(losses, 1) if plateau.reached(loss))

    falling = [float(-n) for n in range(100)]
    # What happens within a window does not count, and neither does the first one.
    noisy = [loss + 3.0 * (-1) ** n for n, loss in enumerate(falling)]
    for begun in (falling, noisy):
        assert updates(begun[: 3 * WINDOW] + [0.0] * WINDOW) == 4 * WINDOW
        with pytest.raises(StopIteration):
            updates(begun)
    assert updates([0.0] * WINDOW + [float("nan")] * WINDOW) == 2 * WINDOW


def test_it_ends_for_good_when_the_mutual_information_has_fallen(fit, monkeypatch, capsys):
    # As published: compared with the epoch before, from 0 on; what rises later changes nothing.
    series(monkeypatch, [0.3, 0.5, 0.4, 0.9])
    callback, watched = AggressiveEncoder(2), Watched()
    fit(4, callback, watched)
    assert watched.moved == [({"inference"}, {"vae"})] * 9 + [(set(), {"inference", "vae"})] * 3
    assert (callback.active, callback.updates, callback.information) == (False, 18, 0.4)
    said = capsys.readouterr().out
    assert "epoch 3: the encoder is trained with the model from here on: I(x; z) has fallen" in said


def test_its_updates_raise_the_bound_until_they_no_longer_do(fit):
    losses = []

    class Heard(AggressiveEncoder):
        @staticmethod
        def _update(module, optimizer, x):
            losses.append(AggressiveEncoder._update(module, optimizer, x))
            return losses[-1]

    callback = Heard(100)
    fit(1, callback)
    assert callback.updates == len(losses)
    assert callback.updates % WINDOW == 0
    windows = torch.tensor(losses).unflatten(0, (-1, WINDOW)).mean(dim=1)
    assert windows[1] < windows[0]
    assert callback.information > 0.0


def test_it_goes_on_as_if_it_had_not_been_stopped(fit, monkeypatch):
    whole, _ = fit(2, AggressiveEncoder(3))
    _, saved = fit(1, AggressiveEncoder(3))
    callback = AggressiveEncoder(3)
    again, _ = fit(2, callback, ckpt_path=saved)
    assert callback.updates == 18
    for name, weight in copy(whole).items():
        torch.testing.assert_close(copy(again)[name], weight)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("experiment=svi",), "with model.encoder 'none': set model.encoder=mlp, or callbacks"),
        (("trainer.accumulate_grad_batches=2",), "set trainer.accumulate_grad_batches=1, or"),
        (("trainer.precision=bf16-mixed",), "with trainer.precision 'bf16-mixed': set trainer"),
        (("experiment=hypergradient",), "with hypergradient.tune, which needs one training loss"),
    ],
)
def test_what_it_cannot_go_with_is_refused(config, words, said):
    with pytest.raises(InputError, match=said):
        check(config("callbacks.aggressive_encoder_steps=100", *words))
