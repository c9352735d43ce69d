"""What the methods of a block are held against besides each other: models that need no run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from benchmarks.harness import run_config
from torch.distributions import LowRankMultivariateNormal

from savi.console import say
from savi.data import TensorDataModule
from savi.data.sets.lstm_oracle import evidence
from savi.evaluation.principal import PrincipalComponents
from savi.experiments.build import build
from savi.runs.whole import write_text
from study.autoregression import autoregressive_nll
from study.plan import Study


def autoregression(data: TensorDataModule) -> float:
    """Of binary images, pixel by pixel."""
    splits = (data.split(name).double().numpy() for name in ("train", "val", "test"))
    return autoregressive_nll(*splits)


def truth(data: TensorDataModule) -> float:
    """By the model that the sequences were drawn from."""
    assert data.truth is not None
    assert data.levels is not None
    words = (data.split("test") * (data.levels - 1)).round().int()
    return -float(evidence(data.truth, words).mean())


#: Of the linear model that ``ppca`` is the optimum of.
LATENT, GAMMA = 6, 0.8


def ppca(data: TensorDataModule) -> float:
    """By N(x̄, γI + Σ_i max(Λ_i − γ, 0) u_i u_iᵀ), the best linear model with that γ.

    Λ_i and u_i are the largest eigenvalues of the training examples' covariance and their vectors
    (Tipping and Bishop 1999, Lucas et al. 2019).
    """
    train, test = (data.split(name).double() for name in ("train", "test"))
    found = PrincipalComponents.fit(train, LATENT)
    weight = found.axes * (found.eigenvalues - GAMMA).clamp(min=0.0).sqrt()
    law = LowRankMultivariateNormal(found.mean, weight, torch.full_like(found.mean, GAMMA))
    return -float(law.log_prob(test).mean())


#: By name: −log p(x) in nats, the mean over the test examples.
REFERENCES: Mapping[str, Callable[[TensorDataModule], float]] = {
    "autoregression": autoregression,
    "ppca": ppca,
    "truth": truth,
}


def nll(study: Study, name: str, reference: str, seed: int, folder: Path) -> float:
    """Of a block, on the data of a seed; from the file of an earlier start if there is one."""
    file = folder / name / f"{reference}_{seed}.json"
    if file.exists():
        return float(json.loads(file.read_text()))
    data, _ = build(run_config(study.words_of(study.blocks[name], seed, "experiment=vae")))
    found = REFERENCES[reference](data)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(found))
    say(f"{name}/{reference}_{seed}: finished")
    return found
