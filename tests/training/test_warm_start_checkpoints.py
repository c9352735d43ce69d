"""What becomes of the table of warm starts in checkpoints."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from warm_starts import EXAMPLES, WARM, Diary, quiet_trainer

from savi.config.schema import EvaluateConfig
from savi.errors import InputError
from savi.experiments.build import build
from savi.experiments.checkpoint import CONFIG_KEY, StoreConfig, load_weights
from savi.experiments.reload import evaluate_checkpoint
from savi.training import SemiAmortizedVAE

# Lightning's own use of torch, where a run is resumed; any other warning fails these tests.
pytestmark = pytest.mark.filterwarnings(r"ignore:.isinstance\(treespec, LeafSpec\).:FutureWarning")


@pytest.fixture
def fit(config, tmp_path):
    """Train a small run, from a checkpoint or from scratch, and save one."""

    def run(epochs: int, *overrides: str, ckpt_path: Path | None = None):
        values = config(*WARM, *overrides)
        data, module = build(values)
        diary = Diary()
        trainer = quiet_trainer(epochs, diary, StoreConfig(values))
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        trainer.save_checkpoint(tmp_path / "saved.ckpt")
        return module, diary, tmp_path / "saved.ckpt"

    return run


def test_a_resumed_run_goes_on_as_an_uninterrupted_one(fit):
    whole, _, _ = fit(3)
    before, _, saved = fit(2)
    assert not torch.equal(before.warm_starts.table, whole.warm_starts.table)
    resumed, diary, _ = fit(3, ckpt_path=saved)
    assert set(diary.epochs) == {2}
    assert torch.equal(diary.epochs[2]["init"], before.warm_starts.table)
    assert torch.equal(resumed.warm_starts.table, whole.warm_starts.table)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_checkpoint_evaluates_without_the_size_of_the_training_data(fit, config):
    module, _, saved = fit(1)
    _, smaller = build(config(*WARM, "data.limit=17"))
    load_weights(smaller, saved)
    loaded = SemiAmortizedVAE.load_from_checkpoint(saved)
    x = torch.randn(2, 64)
    for other in (smaller, loaded):
        bounds = [
            m.evaluate_batch(x, torch.Generator().manual_seed(0), 2)[1].elbo
            for m in (module, other)
        ]
        assert torch.equal(*bounds)


def test_a_checkpoint_without_a_table_evaluates(fit, tmp_path):
    _, _, saved = fit(1)
    old = torch.load(saved, weights_only=True)
    del old["callbacks"]
    for inner in (old[CONFIG_KEY]["inner"], old["hyper_parameters"]["inner"]):
        inner["warm_start"] = False
    torch.save(old, tmp_path / "old.ckpt")
    assert SemiAmortizedVAE.load_from_checkpoint(tmp_path / "old.ckpt").warm_starts is None
    figures = [
        evaluate_checkpoint(asdict(EvaluateConfig(checkpoint=str(file), device="cpu")))[0].metrics
        for file in (saved, tmp_path / "old.ckpt")
    ]
    assert figures[0] == figures[1]
    assert figures[0]["inner/steps"] > 0


def test_a_run_that_had_no_table_is_resumed_at_the_prior(fit):
    module, _, saved = fit(1, "inner.warm_start=false")
    assert module.warm_starts is None
    _, diary, _ = fit(2, ckpt_path=saved)
    assert torch.equal(diary.epochs[1]["init"], module.inference.prior_params.expand(EXAMPLES, -1))


def test_other_data_are_refused(fit):
    _, _, saved = fit(1)
    with pytest.raises(InputError, match=r"shape \(40, 6\) where \(17, 6\) are needed"):
        fit(2, "data.limit=17", ckpt_path=saved)
