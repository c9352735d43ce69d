"""Likelihood regret as a score of strangeness."""

import pytest
import torch
from closed_forms import amortization_gap, diagonal_elbo, log_likelihood
from linear_gaussian import LinearGaussian, linear_gaussian, randn
from semi_amortized import semi_amortized
from torch import nn

from savi.errors import InputError
from savi.evaluation.regret import auroc, likelihood_regret, out_of_distribution
from savi.inference.semi_amortized import SemiAmortizedInference


class Run(nn.Module):
    """What the scores look at of a run."""

    def __init__(self, problem: LinearGaussian, inference: SemiAmortizedInference) -> None:
        super().__init__()
        self.vae, self.inference, self.family = problem.model, inference, inference.family
        self.settings = {"gap_steps": 50, "samples": 8, "importance_samples": 20}
        self.device = torch.device("cpu")

    def evaluation_noise(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(stream)


@pytest.fixture
def problem() -> LinearGaussian:
    problem = linear_gaussian(n=60)
    problem.model.requires_grad_(False)
    return problem


def run_of(problem: LinearGaussian, **options) -> Run:
    """With an encoder whose mean is the exact posterior's, and more so near the data."""
    inference = semi_amortized(**options).requires_grad_(False)
    if inference.encoder is not None:
        w, b, gamma = problem.theta
        gain = torch.linalg.solve(problem.precision, w.mT / gamma)
        head = inference.encoder.head
        head.weight.zero_()
        head.weight[:3] = 0.8 * gain
        head.bias[:3] = -0.8 * gain @ b
        head.bias[3:] = -problem.precision.diagonal().log()
    return Run(problem, inference)


def regret_of(run: Run, x):
    return likelihood_regret(
        run.vae, run.inference, x, steps=50, samples=4, generator=torch.Generator().manual_seed(0)
    )


def test_it_is_the_amortisation_gap_of_each_example(problem: LinearGaussian):
    run = run_of(problem)
    regret = regret_of(run, problem.x)
    mean, log_variance = run.inference.start(problem.x).chunk(2, dim=-1)
    arguments = (mean, log_variance.exp(), problem.x, *problem.theta)
    torch.testing.assert_close(regret.value, amortization_gap(*arguments), rtol=0, atol=1e-6)
    torch.testing.assert_close(regret.initial, diagonal_elbo(*arguments), rtol=0, atol=1e-9)
    assert regret.value.min() > 0
    assert not regret.optimum.failed.any()


@pytest.mark.parametrize(("encoder", "posterior"), [(False, "full_gaussian"), (True, "laplace")])
def test_other_families_and_no_encoder(problem: LinearGaussian, encoder: bool, posterior: str):
    options = {"objective": "map"} if posterior == "laplace" else {}
    inference = semi_amortized(posterior, encoder=encoder, **options).requires_grad_(False)
    regret = regret_of(Run(problem, inference), problem.x)
    exact = log_likelihood(problem.x, *problem.theta)
    torch.testing.assert_close(regret.optimal, exact, rtol=0, atol=1e-6)
    assert regret.value.min() > 0


def test_the_area_under_the_curve():
    low, high = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.5, 3.0])
    assert auroc(low, high) == pytest.approx(5 / 6)
    assert auroc(high, low) == pytest.approx(1 / 6)
    assert auroc(low, low) == pytest.approx(0.5)


@pytest.mark.drawn
def test_shifted_data_are_told_apart(problem: LinearGaussian):
    run = run_of(problem)
    w, _, _ = problem.theta
    direction = w.sum(dim=1)
    shifted = problem.x + 5.0 * direction / direction.norm()
    scores = out_of_distribution(run, problem.x, shifted)
    assert set(scores) == {
        "ood/auroc_regret",
        "ood/auroc_elbo",
        "ood/auroc_nll",
        "ood/regret_inlier",
        "ood/regret_outlier",
        "ood/failures",
    }
    assert all(type(value) is float for value in scores.values())
    assert scores["ood/auroc_regret"] > 0.9
    assert scores["ood/auroc_elbo"] > 0.9
    assert scores["ood/auroc_nll"] > 0.9
    assert scores["ood/regret_outlier"] > 2 * scores["ood/regret_inlier"]
    assert scores["ood/failures"] == 0.0


def test_the_same_distribution_is_not(problem: LinearGaussian):
    other = linear_gaussian(n=150)
    scores = out_of_distribution(run_of(problem), other.x[:75], other.x[75:], samples=2)
    for name in ("regret", "elbo", "nll"):
        assert 0.35 < scores[f"ood/auroc_{name}"] < 0.65


def test_the_run_is_left_as_it_was(problem: LinearGaussian):
    run = run_of(problem).train()
    before = {name: value.clone() for name, value in run.state_dict().items()}
    first = out_of_distribution(run, problem.x[:5], problem.x[5:9])
    assert run.training
    for name, value in run.state_dict().items():
        assert torch.equal(value, before[name])
    torch.manual_seed(99)
    assert out_of_distribution(run, problem.x[:5], problem.x[5:9]) == first


def test_other_dimensions_are_refused(problem: LinearGaussian):
    run = run_of(problem)
    with pytest.raises(InputError, match=r"have 7 entries and those of the run 6: choose"):
        out_of_distribution(run, problem.x, randn(4, 7))
    with pytest.raises(InputError, match="no out-of-distribution examples"):
        out_of_distribution(run, problem.x, problem.x[:0])
