"""Principal components as a density, against what SciPy has."""

import pytest
import torch
from linear_gaussian import randn
from scipy.stats import multivariate_normal

from savi.evaluation.principal import PrincipalComponents

DIM = 6


@pytest.fixture
def train():
    return randn(400, 2) @ randn(2, DIM) + 0.3 * randn(400, DIM) + 5.0


def test_the_densities_are_those_of_tipping_and_bishop(train):
    x = randn(50, DIM) + 5.0
    densities = PrincipalComponents.fit(train, 4).log_likelihoods(x, 1e-9)
    assert densities.shape == (50, 5)
    values, vectors = torch.linalg.eigh(torch.cov(train.mT, correction=0))
    values, vectors = values.flip(0), vectors.flip(1)
    for k in range(5):
        kept = torch.cat([values[:k], values[k:].mean().expand(DIM - k)])
        covariance = vectors @ torch.diag(kept) @ vectors.mT
        exact = multivariate_normal(train.mean(dim=0).numpy(), covariance.numpy()).logpdf(x.numpy())
        torch.testing.assert_close(densities[:, k], torch.from_numpy(exact), rtol=1e-6, atol=1e-6)


def test_more_components_than_dimensions_leave_one_for_the_noise(train):
    densities = PrincipalComponents.fit(train, 20).log_likelihoods(train, 1e-9)
    assert densities.shape == (400, DIM)
    assert bool(densities.isfinite().all())


def test_the_noise_has_the_floor_of_the_variance():
    plane = randn(100, 2) @ randn(2, DIM)
    densities = PrincipalComponents.fit(plane, 3).log_likelihoods(plane, 0.25)
    assert bool(densities.isfinite().all())
    assert float(densities.max()) <= -0.5 * DIM * torch.tensor(2 * torch.pi * 0.25).log()


def test_on_held_out_data_the_right_number_is_the_best(train):
    more = train[:200]
    densities = PrincipalComponents.fit(train[200:], 5).log_likelihoods(more, 1e-9)
    means = densities.mean(dim=0)
    assert float(means[2] - means[1]) > 1.0
    # Noise gains nothing, but by chance.
    assert float(means.max() - means[2]) < 0.02


def test_the_error_is_that_of_the_components_left_out(train):
    values = torch.linalg.eigvalsh(torch.cov(train.mT, correction=0))
    error = PrincipalComponents.fit(train, 4).error(train)
    assert error == pytest.approx(float(values[:2].sum()) / DIM, rel=1e-6)
