"""Where the bound loses nats, against the closed forms of an affine model."""

import pytest
import torch
from closed_forms import amortization_gap, approximation_gap, log_likelihood
from linear_gaussian import LinearGaussian, linear_gaussian, randn
from torch import Tensor, nn

from savi.evaluation import Gaps, measure_gaps
from savi.training.inference import SemiAmortizedInference
from savi.vae import POSTERIORS

INNER = {
    "objective": "elbo",
    "optimizer": "levenberg_marquardt",
    "max_steps": 0,
    "test_max_steps": None,
    "rtol": 1e-6,
    "atol": 0.0,
    "rho": 1.0,
    "noise": "crn",
    "samples": 6,
}


class Lookup(nn.Module):
    """An encoder that answers with given parameters, whatever the examples."""

    def __init__(self, lam: Tensor) -> None:
        super().__init__()
        self.lam = lam

    def forward(self, x: Tensor) -> Tensor:
        return self.lam


def gaps_of(problem: LinearGaussian, name: str, lam: Tensor, **inner: object) -> Gaps:
    inference = SemiAmortizedInference(
        Lookup(lam), POSTERIORS[name](3), INNER | inner, {"name": "stop"}
    )
    return measure_gaps(
        problem.model,
        inference,
        problem.x,
        steps=100,
        importance_samples=500,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.fixture
def problem() -> LinearGaussian:
    problem = linear_gaussian(n=128)
    problem.model.requires_grad_(False)
    return problem


def test_the_gaps_of_a_diagonal_posterior(problem: LinearGaussian):
    w, b, gamma = problem.theta
    lam = problem.best_diagonal() + 0.3 * randn(128, 6)
    gaps = gaps_of(problem, "diagonal_gaussian", lam)
    approximation = float(approximation_gap(w, gamma))
    amortization = amortization_gap(lam[:, :3], lam[:, 3:].exp(), problem.x, w, b, gamma)
    assert approximation > 0.1
    assert gaps.approximation == pytest.approx(approximation, abs=1e-2)
    assert gaps.amortization == pytest.approx(float(amortization.mean()), abs=2e-2)
    exact = float(log_likelihood(problem.x, w, b, gamma).mean())
    assert float(gaps.log_likelihood.mean()) == pytest.approx(exact, abs=1e-2)
    torch.testing.assert_close(gaps.solution.value, problem.best_diagonal(), rtol=0, atol=5e-3)


def test_after_exact_inference_there_is_no_amortisation_gap(problem: LinearGaussian):
    lam = problem.best_diagonal()
    assert gaps_of(problem, "diagonal_gaussian", lam).amortization == pytest.approx(0.0, abs=1e-6)
    far = lam + randn(128, 6)
    refined = gaps_of(problem, "diagonal_gaussian", far, max_steps=0, test_max_steps=50)
    assert refined.amortization == pytest.approx(0.0, abs=1e-4)
    assert gaps_of(problem, "diagonal_gaussian", far).amortization > 0.5


@pytest.mark.parametrize("name", ["full_gaussian", "laplace"])
def test_a_family_that_holds_the_exact_posterior_has_no_gaps(problem: LinearGaussian, name: str):
    lam = problem.best_full() if name == "full_gaussian" else problem.posterior_mean
    gaps = gaps_of(problem, name, lam, objective="map" if name == "laplace" else "elbo")
    assert gaps.approximation == pytest.approx(0.0, abs=1e-6)
    assert gaps.amortization == pytest.approx(0.0, abs=1e-6)
    exact = log_likelihood(problem.x, *problem.theta)
    torch.testing.assert_close(gaps.log_likelihood, exact, rtol=0, atol=1e-6)


def test_a_point_is_judged_by_its_laplace_approximation(problem: LinearGaussian):
    z = problem.posterior_mean + 0.3 * randn(128, 3)
    gaps = gaps_of(problem, "point_mass", z, objective="map")
    error = z - problem.posterior_mean
    expected = 0.5 * torch.einsum("bi,ij,bj->b", error, problem.precision, error).mean()
    assert gaps.approximation == pytest.approx(0.0, abs=1e-6)
    assert gaps.amortization == pytest.approx(float(expected), rel=1e-5)


def test_gaps_are_repeatable(problem: LinearGaussian):
    lam = problem.best_diagonal() + 0.3 * randn(128, 6)
    torch.manual_seed(1)
    first = gaps_of(problem, "diagonal_gaussian", lam, test_max_steps=3)
    torch.manual_seed(2)
    second = gaps_of(problem, "diagonal_gaussian", lam, test_max_steps=3)
    assert torch.equal(first.inferred, second.inferred)
    assert torch.equal(first.optimal, second.optimal)
    assert torch.equal(first.log_likelihood, second.log_likelihood)
