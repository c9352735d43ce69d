"""Collapse of models that are known in closed form."""

import json
import math

import pytest
import torch
from closed_forms import covariance_eigenvalues, optimal_column_norms
from linear_gaussian import randn
from torch import Tensor

from savi.evaluation.autoencoder import linear_error
from savi.evaluation.collapse import Collapse, active_units, measure_collapse
from savi.evaluation.principal import PrincipalComponents
from savi.vae import DECODERS, VARIANCES, DiagonalGaussian, GaussianVAE

N, DIM, SIGNAL, NOISE = 500, 20, (4.0, 2.0, 1.0), 0.1


def data(eigenvalues: Tensor) -> Tensor:
    """Examples whose sample covariance is exactly diagonal with these entries."""
    torch.manual_seed(0)
    x = randn(N, len(eigenvalues))
    x = x - x.mean(dim=0)
    factor = torch.linalg.cholesky(x.mT @ x / N)
    return torch.linalg.solve_triangular(factor, x.mT, upper=False).mT * eigenvalues.sqrt()


@pytest.fixture
def x() -> Tensor:
    x = data(torch.tensor([*SIGNAL, *[NOISE] * (DIM - len(SIGNAL))]).double())
    assert float(covariance_eigenvalues(x)[0]) == pytest.approx(4.0)
    return x


def affine(d: int, weight: Tensor, gamma: float, mode: str = "fixed", dim: int = DIM):
    decoder = DECODERS["mlp"](d, (dim,), hidden=1, depth=0, activation="tanh")
    model = GaussianVAE(decoder, VARIANCES[mode](dim, gamma), d).double()
    with torch.no_grad():
        model.decoder.head.weight.copy_(weight)
        model.decoder.head.bias.zero_()
        model.gamma.gamma.fill_(gamma)
    return model


def at_optimum(x: Tensor, d: int, gamma: float, beta: float = 1.0, **options) -> Collapse:
    """The diagnostics of the affine VAE that is optimal at fixed γ and KL weight β."""
    norms = optimal_column_norms(x.var(dim=0, correction=0), d, gamma, beta)
    weight = torch.zeros(x.shape[1], d).double()
    weight[:d, :d] = torch.diag(norms.sqrt())
    precision = 1.0 + norms / (beta * gamma)
    mean = x @ weight / (beta * gamma) / precision
    q = DiagonalGaussian(mean, (-precision.log()).expand_as(mean))
    squared_error = (x - mean @ weight.mT).square().sum(dim=1) + (norms / precision).sum()
    model = affine(d, weight, gamma, dim=x.shape[1])
    errors = {"linear_error": linear_error(x, x, d), "autoencoder_error": None} | options
    return measure_collapse(model, q, x, squared_error=squared_error, beta=beta, **errors)


def test_superfluous_dimensions_are_pruned_benignly(x: Tensor):
    collapse = at_optimum(x, 6, NOISE)
    assert collapse.verdict.kind == "i"
    assert collapse.evidence.pruned == 3
    assert collapse.evidence.gamma_ratio == pytest.approx(1.0)
    expected = 0.5 * (torch.tensor([*SIGNAL, NOISE, NOISE, NOISE]).double() / NOISE).log()
    torch.testing.assert_close(collapse.kl_per_dimension, expected)
    torch.testing.assert_close(collapse.sigma[:, 3:], torch.ones(N, 3).double())
    assert collapse.metrics()["collapse/sigma_near_one"] == pytest.approx(0.5)


@pytest.mark.parametrize(("gamma", "pruned"), [(1.5, 4), (2.5, 5), (4.0, 6), (10.0, 6)])
def test_a_variance_above_eigenvalues_prunes_what_is_needed(x: Tensor, gamma: float, pruned: int):
    collapse = at_optimum(x, 6, gamma)
    assert collapse.verdict.kind == "ii"
    assert collapse.evidence.pruned == pruned
    # Retained dimensions leave γ of variance each; the others all of theirs.
    kept = 6 - pruned
    optimum = (kept * gamma + sum(SIGNAL[kept:]) + NOISE * 17) / DIM
    assert collapse.evidence.gamma_optimum == pytest.approx(optimum)
    assert f"{gamma / optimum:.3g} times the optimum" in collapse.verdict.sentence


def test_a_kl_weight_acts_like_a_variance(x: Tensor):
    gamma, beta = NOISE, 8.0
    for _ in range(100):  # the self-consistent γ of eq. 10
        gamma = at_optimum(x, 6, gamma, beta, linear_error=0.07).evidence.gamma_optimum
    collapse = at_optimum(x, 6, gamma, beta)
    assert collapse.evidence.gamma_ratio == pytest.approx(1.0, rel=1e-3)
    assert collapse.evidence.pruned > 0
    assert collapse.verdict.kind == "ii"
    assert "β = 8" in collapse.verdict.sentence


def test_a_healthy_model_has_no_collapse(x: Tensor):
    collapse = at_optimum(x, 3, NOISE)
    assert collapse.verdict.kind == "none"
    assert collapse.metrics()["collapse/pruned_units"] == 0.0


def constant_model(x: Tensor, **errors) -> Collapse:
    """The stationary point of Prop. 4.1: q = N(0, I), p = N(x̄, γ̄I), γ̄ = (1/nD) Σ ‖x − x̄‖²."""
    zeros = torch.zeros(N, 6).double()
    variance = float(x.var(dim=0, correction=0).mean())
    model = affine(6, torch.zeros(DIM, 6).double(), variance)
    squares = x.square().sum(dim=1)
    return measure_collapse(
        model,
        DiagonalGaussian(zeros, zeros),
        x,
        squared_error=squares,
        linear_error=linear_error(x, x, 6),
        **errors,
    )


def test_a_bad_local_minimum(x: Tensor):
    collapse = constant_model(x, autoencoder_error=0.08)
    assert collapse.verdict.kind == "v"
    assert collapse.evidence.pruned == 6
    assert collapse.evidence.gamma_ratio == pytest.approx(1.0)
    assert collapse.evidence.lost_share == pytest.approx(1.0)
    assert "the architecture can do better" in collapse.verdict.sentence
    inherited = constant_model(x, autoencoder_error=float(x.square().mean()))
    assert inherited.verdict.kind == "undecided"
    assert "inherits" in inherited.verdict.sentence


def test_an_autoencoder_that_diverged_counts_as_none(x: Tensor):
    collapse = constant_model(x, autoencoder_error=float("nan"))
    assert collapse.evidence.autoencoder_error is None
    assert collapse.verdict.kind == "v"
    assert "collapse/autoencoder_error" not in collapse.metrics()


def collapsed(train: Tensor, x: Tensor, d: int, **options) -> Collapse:
    """The model of Prop. 4.1 with all that an evaluation knows."""
    dim, variance = x.shape[1], float(train.var(dim=0, correction=0).mean())
    zeros = torch.zeros(len(x), d).double()
    model = affine(d, torch.zeros(dim, d).double(), variance, dim=dim)
    squares = x.square().sum(dim=1)
    principal = PrincipalComponents.fit(train, d)
    elbo = -0.5 * (squares / variance + dim * math.log(2 * math.pi * variance))
    return measure_collapse(
        model,
        DiagonalGaussian(zeros, zeros),
        x,
        squared_error=squares,
        linear_error=principal.error(x),
        held_out=(elbo, principal.log_likelihoods(x, 1e-6)),
        **options,
    )


@pytest.mark.parametrize("d", [3, 8, 12, 16])
def test_a_total_collapse_is_seen_whatever_the_size_of_the_code(d: int):
    """Also where a code of d dimensions for 12 reconstructs anything."""
    signal = randn(1000, 3) @ randn(3, 12) + 0.1 * randn(1000, 12)
    signal = signal - signal.mean(dim=0)
    collapse = collapsed(signal[:500], signal[500:], d)
    assert collapse.evidence.pruned == d
    assert collapse.verdict.kind == "v"
    rising = collapsed(signal[:500], signal[500:], d, trend="val/elbo still rose")
    assert rising.verdict.kind == "undecided"
    noise = randn(1000, 12)
    assert collapsed(noise[:500], noise[500:], d).verdict.kind == "i"


def test_one_definition_of_a_used_unit(x: Tensor):
    """A posterior mean that varies by 0.015 has a KL of 0.0075 nats, and is used."""
    scale = torch.tensor([1.0, 0.015, 0.005, 0.0]).double().sqrt()
    mean = scale * data(torch.ones(4).double())
    q = DiagonalGaussian(mean, torch.zeros_like(mean))
    model = affine(4, torch.zeros(DIM, 4).double(), 1.0)
    collapse = measure_collapse(
        model, q, x, squared_error=x.square().sum(dim=1), linear_error=linear_error(x, x, 4)
    )
    assert active_units(q.mean) == 2
    assert collapse.evidence.pruned == 2
    assert collapse.metrics()["collapse/pruned_units"] + active_units(q.mean) == 4


def test_noise_is_rightly_not_encoded():
    collapse = constant_model(data(torch.ones(DIM).double()))
    assert collapse.verdict.kind == "i"
    assert collapse.evidence.pruned == 6


def test_a_free_variance_at_its_floor_is_seen(x: Tensor):
    zeros = torch.zeros(N, 6).double()

    def share(mode: str) -> float:
        model = affine(6, torch.zeros(DIM, 6).double(), 0.5)
        model.likelihood.gamma = VARIANCES[mode](DIM, 0.5, floor=0.1).double()
        if mode == "per_pixel":
            with torch.no_grad():
                model.gamma.log_excess[:5] = -20.0
        q = DiagonalGaussian(zeros, zeros)
        errors = {"squared_error": x.square().sum(dim=1), "linear_error": 0.1}
        return measure_collapse(model, q, x, **errors).metrics()["collapse/gamma_at_floor"]

    assert share("per_pixel") == 0.25
    assert share("learned") == 0.0
    assert share("fixed") == 0.0


def test_the_metrics_and_the_record(x: Tensor):
    collapse = at_optimum(x, 6, NOISE, autoencoder_error=0.07)
    metrics = collapse.metrics()
    assert all(type(value) is float for value in metrics.values())
    shrinkage = sum(NOISE**2 / value for value in SIGNAL)
    assert metrics["collapse/error"] == pytest.approx((shrinkage + 17 * NOISE) / DIM)
    assert metrics["collapse/linear_error"] == pytest.approx(14 * NOISE / DIM, rel=1e-3)
    assert metrics["collapse/autoencoder_error"] == 0.07
    record = json.loads(json.dumps(collapse.record()))
    assert record["kind"] == "i"
    assert record["name"] == "benign pruning of superfluous dimensions"
    assert record["reason"] == collapse.verdict.sentence
    assert record["metrics"] == metrics
    assert record["kl_per_dimension"] == pytest.approx(collapse.kl_per_dimension.tolist())
    histogram = record["sigma_histogram"]
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert sum(histogram["counts"]) == N * 6
