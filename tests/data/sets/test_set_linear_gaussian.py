import pytest
import torch

from savi.data import DATASETS, TensorDataModule, covariance_eigenvalues
from savi.errors import InputError

linear_gaussian = DATASETS["linear_gaussian"]


def test_moments_are_those_of_the_truth():
    raw = linear_gaussian(n=200_000, dim=6, latent_dim=2, gamma=0.3, eigenvalues=[2.0, 0.7])
    x, truth = raw.train.values.double(), raw.truth
    covariance = truth["W"] @ truth["W"].T + truth["gamma"] * torch.eye(6, dtype=torch.float64)
    # five standard errors of a mean and of a second moment
    error = 5 * covariance.diagonal().max() / 200_000**0.5
    assert (x.mean(0) - truth["b"]).abs().max() < error
    assert (torch.cov(x.T) - covariance).abs().max() < 2 * error
    expected = torch.tensor([2.3, 1.0, 0.3, 0.3, 0.3, 0.3], dtype=torch.float64)
    torch.testing.assert_close(covariance_eigenvalues(x), expected, rtol=0.02, atol=0)


def test_squared_column_norms_are_the_eigenvalues():
    truth = linear_gaussian(n=1, dim=5, latent_dim=3, eigenvalues=[3, 1, 0]).truth
    gram = truth["W"].T @ truth["W"]
    torch.testing.assert_close(gram, torch.diag(torch.tensor([3.0, 1, 0], dtype=torch.float64)))


def test_default_eigenvalues_halve():
    truth = linear_gaussian(n=1).truth
    norms = truth["W"].square().sum(0)
    torch.testing.assert_close(norms, torch.tensor([4, 2, 1, 0.5], dtype=torch.float64))


def test_its_own_seed_fixes_parameters_and_examples():
    first, again, other = (linear_gaussian(n=20, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train.values, again.train.values)
    assert not torch.equal(first.train.values, other.train.values)
    assert not torch.equal(first.truth["W"], other.truth["W"])


def test_the_module_passes_the_truth_on():
    data = TensorDataModule("linear_gaussian", seed=5, options={"n": 50, "dim": 3, "latent_dim": 1})
    data.setup()
    assert data.shape == (3,)
    assert data.truth["W"].shape == (3, 1)
    assert data.truth["b"].shape == (3,)
    assert data.truth["gamma"] == 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "data.options.n is 0: set a whole number, 1 or more"),
        ({"n": 10.5}, "data.options.n is 10.5: set a whole number"),
        ({"dim": -2}, "data.options.dim is -2"),
        ({"latent_dim": 0}, "data.options.latent_dim is 0"),
        ({"seed": -1}, "data.options.seed is -1: set a whole number, 0 or more"),
        ({"gamma": 0.0}, "data.options.gamma is 0.0: set a variance above 0"),
        ({"dim": 3}, "latent_dim is 4 and data.options.dim is 3"),
        ({"eigenvalues": [1.0]}, "set latent_dim=4 numbers from 0 up"),
        ({"eigenvalues": [1.0, 1, 1, -1]}, "set latent_dim=4 numbers from 0 up"),
    ],
)
def test_options_that_cannot_be_used(options, message):
    with pytest.raises(InputError, match=message):
        linear_gaussian(**options)
