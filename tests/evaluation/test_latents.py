"""How much of the latent code is used."""

import math

import pytest
import torch
from linear_gaussian import linear_gaussian, randn

from savi.evaluation import active_units, mutual_information
from savi.vae import DiagonalGaussian, FullGaussian, Posterior


@pytest.mark.parametrize("kind", [DiagonalGaussian, FullGaussian])
def test_mutual_information_of_a_linear_gaussian_model(kind: type[Posterior]):
    n = 1500
    problem = linear_gaussian(d=2, n=n, gamma=8.0)
    eigenvalues, vectors = torch.linalg.eigh(problem.precision)
    if kind is FullGaussian:
        scale_tril = torch.linalg.cholesky(torch.linalg.inv(problem.precision))
        q: Posterior = FullGaussian(problem.posterior_mean, scale_tril.expand(n, -1, -1))
    else:  # along the eigenvectors of Λ
        mean = problem.posterior_mean @ vectors
        q = DiagonalGaussian(mean, -eigenvalues.log().expand_as(mean))
    exact = 0.5 * float(eigenvalues.log().sum())
    # The variance of log p(z|x)/p(z) is the sum of the squared canonical correlations.
    error = math.sqrt(float((1.0 - 1.0 / eigenvalues).sum()) / n)
    assert exact > 10 * error
    torch.manual_seed(1)
    assert mutual_information(q, randn(1, n, 2)) == pytest.approx(exact, abs=3 * error)


def test_mutual_information_cannot_exceed_the_logarithm_of_the_number_of_examples():
    apart = DiagonalGaussian(1000.0 * randn(50, 3), torch.zeros(50, 3).double())
    assert mutual_information(apart, randn(1, 50, 3)) == pytest.approx(math.log(50))


def test_a_collapsed_posterior_has_no_mutual_information():
    prior = DiagonalGaussian(torch.zeros(50, 3).double(), torch.zeros(50, 3).double())
    assert mutual_information(prior, randn(1, 50, 3)) == pytest.approx(0.0, abs=1e-12)


def test_mutual_information_in_pieces(monkeypatch: pytest.MonkeyPatch):
    q, noise = DiagonalGaussian(randn(50, 3), randn(50, 3)), randn(1, 50, 3)
    whole = mutual_information(q, noise)
    monkeypatch.setattr("savi.vae.mutual_information.MATRIX_ENTRIES", 50 * 3 * 7)
    assert mutual_information(q, noise) == pytest.approx(whole, rel=1e-12)


def test_active_units():
    means = randn(2000, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0]).double() + 5.0
    assert active_units(means) == 2
    threshold = torch.tensor([[0.1], [-0.1]]).double()
    assert active_units(1.01 * threshold) == 1
    assert active_units(0.99 * threshold) == 0
