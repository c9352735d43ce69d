"""The generative model."""

import pytest
import torch
from linear_gaussian import linear_gaussian, randn, vae
from torch.distributions import Independent, Normal
from torch.func import jacrev, vmap

from savi.vae import GaussianVAE


def dense_gram(model: GaussianVAE, z):
    jacobian = vmap(jacrev(model.decoder))(z)
    return jacobian.mT @ (jacobian / model.gamma()[:, None])


@pytest.mark.parametrize("mode", ["fixed", "learned", "per_pixel"])
def test_gram_against_a_dense_jacobian(mode: str):
    torch.manual_seed(0)
    model, z = vae(mode=mode), randn(4, 3)
    for parameter in model.gamma.parameters():
        torch.nn.init.normal_(parameter)
    gram = model.gram(z)
    torch.testing.assert_close(gram, dense_gram(model, z))
    torch.testing.assert_close(model.precision(z, 0.5), torch.eye(3).double() + 2.0 * gram)


def test_gram_of_one_code_and_of_batches_of_batches():
    model, z = vae(), randn(2, 4, 3)
    expected = torch.stack([dense_gram(model, codes) for codes in z])
    torch.testing.assert_close(model.gram(z), expected)
    torch.testing.assert_close(model.gram(z[0, 0]), expected[0, 0])


def test_gram_is_differentiable_in_the_code_the_weights_and_the_variance():
    torch.manual_seed(0)
    model, z = vae(mode="learned"), randn(4, 3).requires_grad_()
    probe, wanted = randn(4, 3, 3), (z, *model.parameters())
    (actual, expected) = (
        torch.autograd.grad((probe * gram).sum(), wanted, allow_unused=True)
        for gram in (model.gram(z), dense_gram(model, z))
    )
    # The last bias moves the mean but not its Jacobian.
    unused = [one is None or not one.any() for one in actual]
    assert sum(unused) == 1
    for one, other in zip(actual, expected, strict=True):
        if one is not None and other is not None:
            torch.testing.assert_close(one, other)


def test_gram_builds_no_graph_where_none_is_wanted():
    with torch.no_grad():
        assert not vae().gram(randn(4, 3)).requires_grad


def test_every_decoded_code_and_every_tangent_is_counted():
    model = vae()
    assert model.decoder_evaluations == 0
    model.decode(randn(7, 4, 3))
    assert model.decoder_evaluations == 28
    model.gram(randn(4, 3))
    assert model.decoder_evaluations == 28 + 4 * (1 + 3)
    model.precision(randn(2, 3))
    assert model.decoder_evaluations == 28 + 16 + 8


def test_the_log_joint():
    problem = linear_gaussian()
    z = randn(2, 5, 3)
    w, b, gamma = problem.theta
    prior = Independent(Normal(torch.zeros(3).double(), 1.0), 1).log_prob(z)
    likelihood = Independent(Normal(z @ w.mT + b, gamma.sqrt()), 1).log_prob(problem.x)
    torch.testing.assert_close(problem.model.log_joint(problem.x, z), prior + likelihood)


def test_samples_are_decoded_prior_draws_and_repeatable():
    model = linear_gaussian(d=2, dim=3).model
    first, second = (model.sample(4000, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    w = model.decoder.head.weight
    torch.testing.assert_close(torch.cov(first.mT), w @ w.mT, rtol=0.0, atol=0.15)
