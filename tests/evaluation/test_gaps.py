"""Where the bound loses nats, against the closed forms of an affine model."""

import pytest
import torch
from closed_forms import amortization_gap, approximation_gap, log_likelihood
from linear_gaussian import LinearGaussian, linear_gaussian, randn, vae
from torch import Tensor, nn

from savi.evaluation import Gaps, measure_gaps
from savi.evaluation.bounds import ImportanceEstimate
from savi.evaluation.gaps import closer_estimate, generalization
from savi.inference.semi_amortized import SemiAmortizedInference
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


def measure(
    problem: LinearGaussian,
    name: str,
    lam: Tensor,
    samples: int = 500,
    steps: int = 100,
    seed: int = 0,
    **inner: object,
) -> Gaps:
    family = POSTERIORS[name](problem.model.latent_dim)
    inference = SemiAmortizedInference(Lookup(lam), family, INNER | inner, {"name": "stop"})
    return measure_gaps(
        problem.model,
        inference,
        problem.x,
        steps=steps,
        importance_samples=samples,
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.fixture
def problem() -> LinearGaussian:
    problem = linear_gaussian(n=128)
    problem.model.requires_grad_(False)
    return problem


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_gaps_of_a_diagonal_posterior_are_exact(seed: int):
    problem = linear_gaussian(n=128, seed=seed)
    problem.model.requires_grad_(False)
    w, b, gamma = problem.theta
    lam = problem.best_diagonal() + 0.3 * randn(128, 6)
    gaps = measure(problem, "diagonal_gaussian", lam)
    approximation = approximation_gap(w, gamma)
    amortization = amortization_gap(lam[:, :3], lam[:, 3:].exp(), problem.x, w, b, gamma)
    assert approximation > 0.05
    torch.testing.assert_close(gaps.optimal - gaps.inferred, amortization, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        gaps.log_likelihood - gaps.optimal, approximation.expand(128), rtol=0, atol=1e-6
    )
    assert gaps.approximation == pytest.approx(float(approximation), abs=1e-6)
    assert gaps.amortization == pytest.approx(float(amortization.mean()), abs=1e-6)
    assert gaps.inference == pytest.approx(gaps.approximation + gaps.amortization, abs=1e-9)
    torch.testing.assert_close(gaps.optimum.value, problem.best_diagonal(), rtol=0, atol=1e-5)


def test_after_exact_inference_there_is_no_amortisation_gap(problem: LinearGaussian):
    lam = problem.best_diagonal()
    assert measure(problem, "diagonal_gaussian", lam).amortization == pytest.approx(0.0, abs=1e-9)
    far = lam + randn(128, 6)
    refined = measure(problem, "diagonal_gaussian", far, max_steps=0, test_max_steps=50)
    assert refined.amortization == pytest.approx(0.0, abs=1e-6)
    assert measure(problem, "diagonal_gaussian", far).amortization > 0.5


@pytest.mark.parametrize("name", ["full_gaussian", "laplace"])
def test_a_family_that_holds_the_exact_posterior_has_no_gaps(problem: LinearGaussian, name: str):
    best = problem.best_full() if name == "full_gaussian" else problem.posterior_mean
    objective = "map" if name == "laplace" else "elbo"
    gaps = measure(problem, name, best, objective=objective)
    assert gaps.approximation == pytest.approx(0.0, abs=1e-9)
    assert gaps.amortization == pytest.approx(0.0, abs=1e-9)
    exact = log_likelihood(problem.x, *problem.theta)
    torch.testing.assert_close(gaps.log_likelihood, exact, rtol=0, atol=1e-9)
    elsewhere = measure(problem, name, best + 0.3 * randn(*best.shape), objective=objective)
    assert elsewhere.approximation == pytest.approx(0.0, abs=1e-6)
    assert elsewhere.amortization > 0.1


def test_the_generalisation_gap():
    train, test = linear_gaussian(n=64), linear_gaussian(n=64)
    test.x = test.x + 1.0
    for problem in (train, test):
        problem.model.requires_grad_(False)
    gaps = [measure(p, "full_gaussian", p.best_full(), objective="elbo") for p in (train, test)]
    exact = (
        log_likelihood(train.x, *train.theta).mean() - log_likelihood(test.x, *test.theta).mean()
    )
    assert float(exact) > 0.1
    assert generalization(*gaps) == pytest.approx(float(exact), abs=1e-6)


def test_the_approximation_gap_of_a_curved_decoder_is_not_negative():
    torch.manual_seed(0)
    model = vae(d=2, gamma=0.1).requires_grad_(False)
    x = model.decode(randn(32, 2)) + 0.1**0.5 * randn(32, 6)
    problem = LinearGaussian(model, x)
    gaps = measure(problem, "diagonal_gaussian", torch.zeros(32, 4).double(), samples=2000)
    assert gaps.approximation > 0
    assert gaps.amortization > 0.1
    assert gaps.metrics()["gap/failures"] == 0.0
    # The best q is the best: another solve from elsewhere, on other noise, finds no better one.
    other = measure(problem, "diagonal_gaussian", gaps.optimum.value, samples=2000, seed=5)
    assert abs(other.amortization) < 0.01


def test_the_metrics_hold_the_gaps_and_the_certificate(problem: LinearGaussian):
    gaps = measure(problem, "diagonal_gaussian", problem.best_diagonal() + 0.3)
    metrics = gaps.metrics()
    assert set(metrics) == {
        f"gap/{name}"
        for name in (
            "amortization",
            "approximation",
            "inference",
            "converged",
            "stationarity",
            "stationarity_median",
            "min_curvature",
            "failures",
        )
    }
    assert all(type(value) is float for value in metrics.values())
    assert metrics["gap/inference"] == gaps.inference
    assert metrics["gap/converged"] == 1.0


def test_too_few_steps_are_reported(problem: LinearGaussian):
    lam = problem.best_diagonal() + 2.0 * randn(128, 6)
    gaps = measure(problem, "diagonal_gaussian", lam, steps=1)
    assert gaps.metrics()["gap/failures"] > 0.5
    assert gaps.metrics()["gap/converged"] < 0.5


def estimate(*values: float, effective: float) -> ImportanceEstimate:
    log_likelihood = torch.tensor(values)
    return ImportanceEstimate(
        log_likelihood, torch.full_like(log_likelihood, effective), log_likelihood
    )


def test_the_closer_estimate_is_the_surer_one_unless_it_is_clearly_lower():
    sure = estimate(1.0, 2.0, 3.0, effective=100.0)
    by_chance = estimate(1.4, 1.9, 3.1, effective=5.0)
    clearly = estimate(4.0, 5.1, 6.0, effective=5.0)
    assert closer_estimate([by_chance, sure]) is sure
    assert closer_estimate([sure, clearly]) is clearly
    one, other = estimate(1.0, effective=2.0), estimate(2.0, effective=1.0)
    assert closer_estimate([one, other]) is one


def test_a_point_is_judged_by_its_laplace_approximation(problem: LinearGaussian):
    z = problem.posterior_mean + 0.3 * randn(128, 3)
    gaps = measure(problem, "point_mass", z, objective="map")
    error = z - problem.posterior_mean
    expected = 0.5 * torch.einsum("bi,ij,bj->b", error, problem.precision, error).mean()
    assert gaps.approximation == pytest.approx(0.0, abs=1e-6)
    assert gaps.amortization == pytest.approx(float(expected), rel=1e-5)


def test_gaps_are_repeatable(problem: LinearGaussian):
    lam = problem.best_diagonal() + 0.3 * randn(128, 6)
    torch.manual_seed(1)
    first = measure(problem, "diagonal_gaussian", lam, test_max_steps=3)
    torch.manual_seed(2)
    second = measure(problem, "diagonal_gaussian", lam, test_max_steps=3)
    assert torch.equal(first.inferred, second.inferred)
    assert torch.equal(first.optimal, second.optimal)
    assert torch.equal(first.log_likelihood, second.log_likelihood)
