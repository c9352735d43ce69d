"""A second VAE on the codes of a first one (Dai and Wipf 2019)."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from linear_gaussian import randn
from torch import Tensor

import savi
from savi.data.form import Form
from savi.data.sets.arrays import arrays
from savi.data.sets.digits import digits
from savi.errors import InputError
from savi.experiments.build import build
from savi.experiments.codes import write_codes
from savi.experiments.reload import evaluate_checkpoint
from savi.training import SemiAmortizedVAE


class AsItIs(Form):
    """Examples in the model's units."""

    def __init__(self) -> None:
        super().__init__(cast(Any, SimpleNamespace()))

    def seen(self, values: Any) -> Tensor:
        return values

    def restored(self, x: Tensor) -> Tensor:
        return x


def affine(w: Tensor, b: Tensor, gamma: float, **options) -> savi.TrainedModel:
    """x ~ N(Wz + b, γI), whose posteriors are q = N(Ax, s²I) for weights A of its encoder."""
    module = SemiAmortizedVAE(
        data_shape=(len(w),),
        model={
            "latent_dim": w.shape[1], "depth": 0, "gamma": {"mode": "fixed", "value": gamma}
        },
    ).double()  # fmt: skip
    with torch.no_grad():
        module.vae.decoder.head.weight.copy_(w)
        module.vae.decoder.head.bias.copy_(b)
    return savi.TrainedModel(module, AsItIs(), **options)


N = 20_000


@pytest.fixture(scope="module")
def stages() -> tuple[savi.TrainedModel, savi.TrainedModel, Tensor, Tensor]:
    """Two affine VAEs, the second the very law of the first one's codes; its mean, covariance."""
    torch.manual_seed(0)
    w, b, shift = randn(4, 2), randn(4), randn(2)
    first = affine(w, b, 0.1)
    a, head = randn(2, 4), first.module.inference.encoder.head
    with torch.no_grad():
        head.weight.copy_(torch.cat([a, torch.zeros(2, 4).double()]))
        head.bias.copy_(torch.cat([shift, torch.full((2,), -1.0).double()]))
    # For examples x ~ N(0, I).
    covariance = a @ a.mT + torch.eye(2).double() * torch.tensor(-1.0).exp()
    noise = 0.5 * float(torch.linalg.eigvalsh(covariance).min())
    factor = torch.linalg.cholesky(covariance - noise * torch.eye(2).double())
    return first, affine(factor, shift, noise), shift, covariance


def test_codes_are_samples_of_the_aggregated_posterior(stages):
    first, _, mean, covariance = stages
    x = randn(N, 4)
    codes = first.codes(x)
    assert codes.shape == (N, 2)
    torch.testing.assert_close(codes.mean(dim=0), mean, rtol=0, atol=0.1)
    torch.testing.assert_close(codes.mT.cov(), covariance, rtol=0.05, atol=0.2)
    assert torch.equal(first.codes(x[:10]), first.codes(x[:10]))


def test_two_stages_sample_what_the_decoder_makes_of_the_aggregated_posterior(stages):
    first, second, mean, covariance = stages
    both = savi.TrainedModel(first.module, first.form, second=second)
    head = first.module.vae.decoder.head
    w, b = head.weight.detach(), head.bias.detach()
    for noise in (False, True):
        x = both.sample(N, noise=noise)
        expected = w @ covariance @ w.mT + 0.1 * noise * torch.eye(4).double()
        torch.testing.assert_close(x.mean(dim=0), w @ mean + b, rtol=0, atol=0.15)
        torch.testing.assert_close(x.mT.cov(), expected, rtol=0.06, atol=0.3)
    alone = first.sample(N)
    torch.testing.assert_close(alone.mT.cov(), w @ w.mT, rtol=0.06, atol=0.3)
    assert not torch.allclose(x.mT.cov(), alone.mT.cov(), rtol=0.2, atol=0.5)


def test_a_second_one_of_other_data_is_refused(stages):
    first, _, _, _ = stages
    with pytest.raises(InputError, match="second is a model of 4 numbers and codes have 2: give"):
        savi.TrainedModel(first.module, first.form, second=first)


SHORT = (
    "experiment=vae", "trainer.max_epochs=1", "model.hidden=4", "model.latent_dim=3",
    "logger=csv", "trainer.enable_progress_bar=false", "evaluation.importance_samples=10",
    "evaluation.ais_examples=0", "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0",
    "callbacks.figures=false", "data.limit=80",
)  # fmt: skip
OPTIONS = {
    "imports": None, "split": "test", "samples": None, "importance_samples": None,
    "gap_examples": None, "gap_steps": None, "ais_examples": None, "ais_chains": None,
    "ais_steps": None, "autoencoder_steps": None, "test_max_steps": None, "data_path": None,
    "ood": None, "ood_path": None, "ood_examples": 10, "device": "cpu", "threads": None,
}  # fmt: skip


def test_the_codes_of_all_splits_make_a_file_of_arrays(config, tmp_path):
    data, module = build(config(*SHORT))
    write_codes(tmp_path / "codes.npz", module, data)
    found = arrays(tmp_path / "codes.npz")
    assert found.val is not None
    assert found.test is not None
    assert [len(data.split("train")), len(data.split("val"))] == [
        len(found.train.values), len(found.val.values)
    ]  # fmt: skip
    q = module(data.split("test"))
    # Samples, not means: their distances from the means are those of q.
    distance = (found.test.values - q.mean.detach()) / q.variance.detach().sqrt()
    assert 0.8 < float(distance.square().mean()) < 1.2


@pytest.mark.long
def test_from_a_run_to_the_samples_of_two(tmp_path, capsys):
    first = savi.train(SHORT, folder=tmp_path / "first")
    checkpoint, codes = tmp_path / "first" / "checkpoints" / "best.ckpt", tmp_path / "codes.npz"
    evaluate_checkpoint(OPTIONS | {"checkpoint": str(checkpoint), "codes": str(codes)})
    assert f"data=arrays data.path={codes}" in capsys.readouterr().out
    with np.load(codes) as written:
        assert {split: codes.shape[1] for split, codes in written.items()} == {
            "train": 3, "val": 3, "test": 3
        }  # fmt: skip
        assert len(written["train"]) == 80
    words = ("data=arrays", f"data.path={codes}", "model.latent_dim=3")
    savi.train([*SHORT, *words], folder=tmp_path / "second")
    both = savi.load(tmp_path / "first", second=tmp_path / "second")
    assert both.sample(5).shape == (5, 1, 8, 8)
    assert not torch.equal(both.sample(5), first.sample(5))
    assert torch.equal(both.sample(5, seed=1), both.sample(5, seed=1))
    assert both.codes(digits().train.values[:7]).shape == (7, 3)
    with pytest.raises(InputError, match=r"codes 'codes\.txt' is no \.npz file"):
        evaluate_checkpoint(OPTIONS | {"checkpoint": str(checkpoint), "codes": "codes.txt"})
