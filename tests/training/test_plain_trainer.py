"""The module by itself: built from a few words, trained by any Trainer on any tensors."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from savi.data import TensorDataModule
from savi.errors import InputError
from savi.training import SemiAmortizedVAE

SMALL = {"latent_dim": 2, "hidden": 8, "depth": 1}
SAVI = {
    "inner": {"optimizer": "natural_gradient", "max_steps": 2},
    "gradient": {"name": "stop"},
    "encoder_loss": {"objective_at_init": 1.0},
}


def loader(*shape: int, labels: bool = False) -> DataLoader:
    x = torch.randn(32, *shape, generator=torch.Generator().manual_seed(0))
    extra = [torch.arange(32)] if labels else []
    return DataLoader(TensorDataset(x, *extra), batch_size=16)


def trainer(tmp_path) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        log_every_n_steps=1,
    )  # fmt: skip


pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


@pytest.mark.parametrize("groups", [{}, SAVI], ids=["amortised", "refined"])
def test_any_trainer_trains_it_on_any_tensors(tmp_path, groups):
    torch.manual_seed(0)
    module = SemiAmortizedVAE(data_shape=(1, 2, 3), model=SMALL, **groups)
    before = {name: p.clone() for name, p in module.named_parameters()}
    fit = trainer(tmp_path)
    fit.fit(module, loader(1, 2, 3, labels=True), loader(6))
    assert torch.isfinite(fit.callback_metrics["val/elbo"])
    assert all(not torch.equal(p, before[name]) for name, p in module.named_parameters())
    posteriors = fit.predict(module, loader(6))
    assert [q["mean"].shape for q in posteriors] == [(16, 2), (16, 2)]
    again = fit.predict(module, loader(6))
    assert torch.equal(again[1]["mean"], posteriors[1]["mean"])


def test_forward_is_the_posterior(tmp_path):
    module = SemiAmortizedVAE(data_shape=(6,), model=SMALL).eval()
    x = torch.randn(4, 6)
    torch.testing.assert_close(
        module(x).mean, module.family.distribution(module.inference.start(x), module.vae).mean
    )


def test_what_a_group_leaves_out_is_its_default():
    module = SemiAmortizedVAE(data_shape=(6,), model={"latent_dim": 3, "gamma": {"value": 0.5}})
    assert module.hparams["model"]["gamma"] == {"mode": "optimal", "value": 0.5, "floor": 1e-6}
    again = SemiAmortizedVAE(**module.hparams)
    assert again.hparams == module.hparams


def test_a_data_module_serves_predictions(tmp_path):
    data = TensorDataModule("digits", limit=40)
    module = SemiAmortizedVAE(data_shape=(1, 8, 8), model=SMALL)
    posteriors = trainer(tmp_path).predict(module, data)
    assert sum(len(q["mean"]) for q in posteriors) == len(data.split("test"))


def test_examples_of_another_dimension_are_refused(tmp_path):
    module = SemiAmortizedVAE(data_shape=(7,), model=SMALL)
    with pytest.raises(InputError, match=r"6 numbers, and data_shape \(7,\) has 7"):
        trainer(tmp_path).fit(module, loader(6), loader(6))


def test_warm_starts_ask_for_positions(tmp_path):
    inner = {"max_steps": 1, "warm_start": True, "optimizer": "natural_gradient", "rtol": 0.0}
    module = SemiAmortizedVAE(
        data_shape=(6,), model=SMALL | {"encoder": "none"}, inner=inner, gradient={"name": "stop"},
        encoder_loss={},
    )  # fmt: skip
    with pytest.raises(InputError, match="do not say which examples"):
        trainer(tmp_path).fit(module, loader(6), loader(6))
