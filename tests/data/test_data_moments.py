import torch

from savi.data.units import covariance_eigenvalues, mean_and_variance


def test_mean_and_variance_over_several_chunks_of_bytes():
    values = torch.randint(0, 256, (10_000, 3), generator=torch.Generator().manual_seed(0))
    mean, variance = mean_and_variance(values.to(torch.uint8))
    torch.testing.assert_close(mean, values.double().mean(0))
    torch.testing.assert_close(variance, values.double().var(0, unbiased=False))


def test_variance_survives_a_large_mean():
    values = torch.tensor([[1e6 - 1], [1e6 + 1]])
    mean, variance = mean_and_variance(values)
    assert mean.item() == 1e6
    assert variance.item() == 1.0


def test_eigenvalues_are_of_the_covariance_divided_by_n():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) + 3
    expected = torch.linalg.eigvalsh(torch.cov(x.T.double(), correction=0)).flip(0)
    torch.testing.assert_close(covariance_eigenvalues(x), expected)


def test_eigenvalues_of_fewer_examples_than_dimensions_are_not_negative():
    x = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    eigenvalues = covariance_eigenvalues(x)
    assert (eigenvalues >= 0).all()
    assert (eigenvalues > 1e-9).sum() == 2
