"""A checkpoint sees data as its run did, whatever file it is given."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from savi import replicas
from savi.errors import InputError
from savi.experiments.checkpoint import DATA_KEY, read_checkpoint
from savi.experiments.reload import evaluate_checkpoint, load
from savi.experiments.run import train

pytestmark = [
    pytest.mark.filterwarnings("ignore:Experiment logs directory"),
    pytest.mark.filterwarnings("ignore:The '.*' does not have many workers"),
]

TINY = (
    "debug=quick", "experiment=vae", "logger=csv", "data=arrays", "data.limit=null",
    "model.hidden=4", "model.latent_dim=2", "callbacks.figures=false", "evaluation.ais_examples=0",
    "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0", "data.val_size=0.2",
    "evaluation.importance_samples=10",
)  # fmt: skip
OPTIONS = dict.fromkeys(
    (
        "imports", "samples", "importance_samples", "gap_examples", "gap_steps", "ais_examples",
        "ais_chains", "ais_steps", "autoencoder_steps", "test_max_steps", "data_path", "ood",
        "ood_path", "threads",
    )
) | {"split": "test", "device": "cpu", "ood_examples": 500}  # fmt: skip


def rows(size: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(size, 4)) + 2.0


@pytest.fixture
def trained(config, tmp_path) -> Callable[..., Path]:
    """Train on an array; returns the run folder."""

    def call(array: np.ndarray, *overrides: str) -> Path:
        np.save(tmp_path / "own.npy", array)
        train(config(*TINY, f"data.path={tmp_path / 'own.npy'}", *overrides), tmp_path / "run")
        return tmp_path / "run"

    return call


def figures(run: Path, **options: object) -> dict[str, float]:
    checkpoint = run / "checkpoints" / "best.ckpt"
    evaluation, ood = evaluate_checkpoint({**OPTIONS, "checkpoint": str(checkpoint), **options})
    return evaluation.metrics | ood


def saved(path: Path, *array: np.ndarray, **arrays: np.ndarray) -> str:
    np.savez(path, *array, **arrays)
    return str(path)


@pytest.mark.parametrize("scale", ["none", "per_feature"])
def test_the_same_file_gives_the_figures_of_the_run(trained, scale, capsys):
    run = trained(rows(), f"data.scale={scale}")
    at_the_end = json.loads((run / "metrics.json").read_text())
    capsys.readouterr()
    again = figures(run)
    assert again == {name: at_the_end[name] for name in again}
    assert again["test/examples"] == 8
    assert again["test/examples_trained_on"] == 0
    assert capsys.readouterr().out.split("\n")[1:] == [""]


def test_moved_data_do_not_look_like_those_of_the_run(trained, tmp_path, capsys):
    run = trained(rows())
    own = figures(run)
    moved = figures(run, data_path=saved(tmp_path / "moved.npz", rows() + 100.0))
    assert moved["test/elbo"] < own["test/elbo"] - 1000
    assert "are not those that the run began with" in capsys.readouterr().out


def test_a_grown_file_has_the_test_examples_of_the_run_and_none_that_was_trained_on(
    trained, tmp_path, capsys
):
    run = trained(rows())
    more = np.concatenate([rows(60, seed=2), rows()[::-1]])
    grown = figures(run, data_path=saved(tmp_path / "grown.npz", more))
    assert grown["test/examples"] > 8
    assert grown["test/examples_trained_on"] == 0
    assert "trained on" not in capsys.readouterr().out


def test_examples_that_were_trained_on_are_told(trained, tmp_path, capsys):
    run = trained(rows())
    path = saved(tmp_path / "given.npz", train=rows(9, seed=4), test=rows())
    metrics = figures(run, data_path=path)
    assert metrics["test/examples"] == 40
    assert metrics["test/examples_trained_on"] == 24
    assert "Of the 40 test examples, 24 were trained on\n" in capsys.readouterr().out


def test_a_checkpoint_without_its_preprocessing_says_so(trained, capsys):
    run = trained(rows())
    path = run / "checkpoints" / "best.ckpt"
    contents = read_checkpoint(path)
    del contents[DATA_KEY]
    torch.save(contents, path)
    figures(run)
    assert "The checkpoint holds no preprocessing" in capsys.readouterr().out


def test_other_data_are_scaled_as_those_of_the_run(trained, tmp_path):
    run = trained(rows() * 1000, "data.scale=global")
    own = saved(tmp_path / "own.npz", train=rows(4, 5) * 1000, test=rows(40, seed=6) * 1000)
    far = saved(tmp_path / "far.npz", train=rows(4, 5) * 1000, test=rows(40, seed=6) * 9000)
    near = figures(run, ood="arrays", ood_path=own)
    assert 0.2 < near["ood/auroc_elbo"] < 0.8
    assert figures(run, ood="arrays", ood_path=far)["ood/auroc_elbo"] > 0.95


def test_bounds_in_the_datas_units_can_be_compared(trained):
    metrics = json.loads((trained(3 * rows(), "data.scale=global") / "metrics.json").read_text())
    shift = metrics["test/elbo"] - metrics["test/elbo_data_units"]
    assert shift > 0.1
    for split in ("test", "val"):
        assert metrics[f"{split}/elbo"] - metrics[f"{split}/elbo_data_units"] == pytest.approx(
            shift
        )
    assert metrics["test/nll_data_units"] - metrics["test/nll"] == pytest.approx(shift)
    bits = metrics["test/nll_data_units"] / 4 / math.log(2)
    assert metrics["test/bits_per_dim"] == pytest.approx(bits)


def test_what_a_loaded_model_decodes_has_a_way_back_to_the_datas_units(trained):
    run = trained(rows() * 1000, "data.scale=global")
    module = load(run)
    assert module.preprocessing is not None
    units = module.preprocessing.units
    samples = units.restored(module.vae.sample(500).detach())
    assert float(samples.mean()) == pytest.approx(2000, rel=0.3)
    torch.testing.assert_close(units.restored(units.seen(samples)), samples, rtol=1e-5, atol=1e-2)


def test_a_file_of_another_shape_is_refused(trained, tmp_path):
    run = trained(rows())
    with pytest.raises(InputError, match=r"examples of shape \[3\] and the run had \[4\]"):
        figures(run, data_path=saved(tmp_path / "narrow.npz", rows()[:, :3]))


class TestScale:
    @pytest.mark.parametrize(
        ("change", "scale"),
        [
            (lambda x: x * 1000, "global"),
            (lambda x: x + 1e6, "none"),
            (lambda x: x * 1e-5, "global"),
            (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, 1e6, x), "global"),
            (lambda x: x * np.array([1, 1e3, 1e-3, 1e5]), "per_feature"),
        ],
        ids=["thousand", "offset", "tiny", "outlier", "mixed"],
    )
    def test_data_in_natural_units_are_trained_on(self, trained, change, scale):
        run = trained(
            change(rows(60)), f"data.scale={scale}", "experiment=savi_ift", "data.val_size=1",
            "trainer.max_epochs=2", "inner.max_steps=5",
        )  # fmt: skip
        metrics = json.loads((run / "metrics.json").read_text())
        assert all(map(math.isfinite, metrics.values()))

    @pytest.mark.parametrize(
        ("units", "advice"),
        [
            (1e25, "set data.scale=global"),
            (np.array([1, 1, 1, 1e25]), "set data.scale=per_feature"),
        ],
    )
    def test_a_training_that_diverges_by_its_scale_names_it(self, trained, units, advice):
        with pytest.raises(FloatingPointError, match=f"in epoch 1, likely .*: {advice}$"):
            trained(rows() * units)

    def test_a_variance_below_the_floor_of_gamma(self, trained):
        with pytest.raises(InputError, match=r"set data\.scale=global, or set model\.gamma\.value"):
            trained(rows() * 1e-6)
        with pytest.raises(InputError, match=r"check data\.path and data\.limit"):
            trained(np.ones((40, 4)))


class TestFewValues:
    @pytest.mark.parametrize("together", [False, True])
    def test_zeros_and_ones_are_told_at_the_start(self, config, tmp_path, capsys, together):
        np.save(tmp_path / "binary.npy", (rows() > 2).astype(float))
        values = config(*TINY, f"data.path={tmp_path / 'binary.npy'}")
        if together:
            values["trainer"] |= {"replicas": 2, "vary": {"optimizer.lr": [1e-3, 1e-2]}}
        (replicas.train if together else train)(values, tmp_path / "binary")
        said = [line for line in capsys.readouterr().err.split("\n") if "take only" in line]
        assert len(said) == 1
        assert said[0].startswith("warning: the training data of 'arrays' take only the values 0")

    def test_nothing_is_said_of_others(self, trained, capsys):
        trained(rows())
        assert "take only" not in capsys.readouterr().err
