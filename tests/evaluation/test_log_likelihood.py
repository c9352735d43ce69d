"""The better of two estimators, and how far to trust it."""

import math
from itertools import pairwise

import pytest
import torch
from closed_forms import log_likelihood
from linear_gaussian import linear_gaussian, vae

from savi.errors import InputError
from savi.evaluation.annealing import Annealing
from savi.evaluation.log_likelihood import log_likelihood_figures
from savi.vae import POSTERIORS, DiagonalGaussian, GaussianVAE, Posterior

NAMES = {
    "ais/nll", "ais/nll_importance", "ais/log_likelihood", "ais/standard_error",
    "ais/effective_samples", "ais/acceptance", "ais/bdmc_gap",
}  # fmt: skip


def figures(model: GaussianVAE, infer, x: torch.Tensor, **options) -> dict[str, float]:
    defaults = {
        "annealing": Annealing(4, 20),
        "importance_samples": 50,
        "generator": torch.Generator().manual_seed(0),
    }
    return log_likelihood_figures(model, infer, x, **(defaults | options))


def unit(x: torch.Tensor) -> Posterior:
    zeros = x.new_zeros(len(x), 3)
    return DiagonalGaussian(zeros, zeros)


def test_on_an_affine_model_annealing_is_exact_and_the_better():
    problem = linear_gaussian(n=8)
    exact = float(log_likelihood(problem.x, *problem.theta).detach().mean())
    measured = figures(problem.model, unit, problem.x)
    assert set(measured) == NAMES
    assert all(type(value) is float and math.isfinite(value) for value in measured.values())
    assert -measured["ais/nll"] == pytest.approx(exact, abs=1e-3)
    assert measured["ais/bdmc_gap"] == pytest.approx(0.0, abs=1e-3)
    assert measured["ais/standard_error"] < 1e-3
    assert measured["ais/nll_importance"] > measured["ais/nll"] + 0.1
    assert measured["ais/log_likelihood"] == -measured["ais/nll"]


def test_the_estimator_with_the_larger_mean_is_taken():
    # With many samples the importance weights win over two chains of two temperatures.
    torch.manual_seed(0)
    model, x = vae(gamma=0.5), torch.randn(8, 6).double()
    measured = figures(model, unit, x, annealing=Annealing(2, 2), importance_samples=50_000)
    assert measured["ais/nll_importance"] < measured["ais/nll"]
    assert measured["ais/log_likelihood"] == -measured["ais/nll_importance"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_repeatable_in_any_precision(dtype: torch.dtype):
    model, x = vae(gamma=0.05).to(dtype), torch.linspace(-1, 1, 12, dtype=dtype).view(2, 6)
    torch.manual_seed(1)
    first = figures(model, unit, x)
    torch.manual_seed(2)
    assert figures(model, unit, x) == first


def test_one_example_is_enough():
    measured = figures(vae(), unit, torch.zeros(1, 6).double())
    assert all(math.isfinite(value) for value in measured.values())


def test_progress_covers_all_three_parts():
    seen = []
    figures(vae(), unit, torch.zeros(2, 6).double(), progress=seen.append)
    assert seen == sorted(seen)
    assert 0.0 < seen[0] <= 0.1
    assert seen[-1] == pytest.approx(1.0)
    assert max(b - a for a, b in pairwise(seen)) < 0.2


def test_a_point_has_no_density_to_sample_from():
    family = POSTERIORS["point_mass"](3)
    model = vae()
    with pytest.raises(InputError, match="no density"):
        figures(model, lambda x: family.distribution(x[:, :3], model), torch.zeros(2, 6).double())
