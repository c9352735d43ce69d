"""Figures that no trained model can have, and those that a bad one may."""

import json
import math
import re
from statistics import fmean

import numpy as np
import pytest
import torch
from linear_gaussian import randn

from savi.cli import evaluate as savi_evaluate
from savi.cli import train as savi_train
from savi.evaluation.plausible import factorised, implausible, worse_than_the_mean

DIM = 8


def bounds(gamma, squared_error, kl):
    """The figures of a model with these residuals and this code."""
    reconstruction = -0.5 * (DIM * math.log(2 * math.pi * gamma) + squared_error / gamma)
    return {
        "test/elbo": reconstruction - kl,
        "test/nll": kl - reconstruction,
        "test/reconstruction": reconstruction,
        "test/kl": kl,
        "test/squared_error": squared_error,
        "test/gamma": gamma,
    }


def judged(metrics, scale=1.0):
    x = scale * randn(200, DIM)
    return implausible(metrics, "test", torch.tensor([metrics["test/gamma"]]), x, x)


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
@pytest.mark.parametrize(
    ("gamma", "squared_error", "kl"),
    [
        (1.0, DIM, 0.0),  # total collapse
        (0.01, 0.01 * DIM, 40.0),  # well trained
        (1e-6, DIM, 0.0),  # a γ that is far too small, or a training set learned by heart
        (1e6, DIM, 0.0),  # far too large
        (1e-4, 3 * DIM, 500.0),  # worse than the mean
        (100.0, 100 * DIM, 100.0),  # an untrained decoder
    ],
)
def test_what_a_bad_model_may_have_is_no_fault(gamma, squared_error, kl, scale):
    units = scale**2
    assert judged(bounds(gamma * units, squared_error * units, kl), scale) is None


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_a_cost_beyond_all_measure_is_a_fault(scale):
    units = scale**2
    for squared_error, kl in ((DIM, 1e6), (1e6 * DIM, 3.0)):
        fault = judged(bounds(units, squared_error * units, kl), scale)
        assert fault.startswith("test/elbo is -")
        ceiling = -0.5 * DIM * math.log(2 * math.pi * units)
        simplest = float(re.search(r"has an ELBO of (\S+) at the same γ", fault).group(1))
        assert simplest == pytest.approx(ceiling - 0.5 * DIM, abs=0.1 * DIM)
        assert "data.scale" in fault
        assert ("standard deviation is" in fault) == (scale != 1.0)


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_a_bound_behind_the_simplest_model_is_told(scale):
    x = scale * randn(200, DIM)
    variance = float((x - x.mean(dim=0)).square().mean())

    def told(squared_error, kl):
        metrics = bounds(variance, squared_error * variance, kl)
        assert implausible(metrics, "test", torch.tensor([variance]), x, x) is None
        return worse_than_the_mean(metrics, "test", torch.tensor([variance]), x, x)

    assert told(DIM, 0.0) is None
    assert told(0.5 * DIM, 0.25 * DIM) is None
    worse = told(DIM, 5.0)
    assert "of a model that ignores its code" in worse
    assert "trainer.max_epochs" in worse
    assert ("data.scale set to global" in worse) == (scale != 1.0)


@pytest.mark.parametrize("name", ["elbo", "nll", "kl", "squared_error", "reconstruction"])
def test_what_is_no_number_is_a_fault(name):
    metrics = bounds(1.0, DIM, 0.0) | {f"test/{name}": math.nan}
    assert f"test/{name} is nan, which is no number" in judged(metrics)


@pytest.mark.parametrize("name", ["elbo", "nll"])
def test_more_than_the_highest_density_is_a_fault(name):
    sign = 1.0 if name == "elbo" else -1.0
    top = -0.5 * DIM * math.log(2 * math.pi * 1e-6)
    metrics = bounds(1e-6, 0.0, 0.0)
    assert judged(metrics) is None
    assert "no log-density exceeds" in judged(metrics | {f"test/{name}": sign * (top + 1.0)})


TINY = (
    "trainer.max_epochs=2", "evaluation.ais_examples=0", "evaluation.gap_examples=0",
    "evaluation.autoencoder_steps=0", "evaluation.importance_samples=10", "logger=csv",
    "callbacks.figures=false", "hydra.run.dir=run", "data=arrays", "data.path=x.npy",
    "model.hidden=32", "model.latent_dim=4",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "code"), [(1e10, 1), (1.0, 0)])
def test_a_run_out_of_range_says_so(scale, code, command, capsys, tmp_path):
    x = scale * np.random.default_rng(0).uniform(size=(400, 3)) @ np.ones((3, 12))
    np.save(tmp_path / "x.npy", x.astype(np.float32))

    def ended(function, *arguments):
        try:
            command(function, *arguments)
        except SystemExit as exit_:
            return exit_.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    run = ended(savi_train, "experiment=vlae", *TINY)
    again = ended(
        savi_evaluate, "checkpoint=run/checkpoints/best.ckpt", "output=figures.json",
        "ais_examples=0",
    )  # fmt: skip
    record = json.loads((tmp_path / "run" / "status.json").read_text())
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert run[0] == again[0] == code
    assert math.isfinite(fmean(written.values()))
    if code == 0:
        assert record["state"] == "finished"
        return
    for _, said in (run, again):
        assert "savi: the figures of this run are absurd: test/elbo is -" in said
        assert "standard deviation is 5" in said or "standard deviation is 4" in said
        assert said.count("absurd") == 1
    assert record["state"] == "failed"
    assert record["reason"] in run[1]
    assert json.loads((tmp_path / "figures.json").read_text())["test/elbo"] < -1e6


def test_a_matrix_without_factors_is_explained():
    train = 1e20 * randn(20, DIM)
    with (
        pytest.raises(FloatingPointError, match=r"cannot be computed.*data\.scale set to global"),
        factorised(lambda: train),
    ):
        torch.linalg.cholesky(-torch.eye(2))
    with pytest.raises(ValueError, match="other"), factorised(lambda: train):
        raise ValueError("other")
