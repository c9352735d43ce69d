"""The variational distributions."""

import pytest
import torch
from linear_gaussian import randn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from savi.errors import InputError
from savi.vae import DiagonalGaussian, FullGaussian, PointMass, Posterior
from savi.vae.distributions import stack


def diagonal(n: int = 4, d: int = 3) -> DiagonalGaussian:
    return DiagonalGaussian(randn(n, d), randn(n, d))


def full(n: int = 4, d: int = 3) -> FullGaussian:
    lower = randn(n, d, d).tril(-1)
    return FullGaussian(randn(n, d), lower + torch.diag_embed(randn(n, d).exp()))


def reference(q: Posterior) -> MultivariateNormal | Independent:
    if isinstance(q, DiagonalGaussian):
        return Independent(Normal(q.mean, (0.5 * q.log_variance).exp()), 1)
    assert isinstance(q, FullGaussian)
    return MultivariateNormal(q.mean, scale_tril=q.scale_tril)


@pytest.fixture(params=[diagonal, full], ids=["diagonal", "full"])
def make(request: pytest.FixtureRequest):
    torch.manual_seed(0)
    return request.param


def test_densities_and_variances(make):
    q, z = make(), randn(2, 4, 3)
    torch.testing.assert_close(q.log_prob(z), reference(q).log_prob(z))
    torch.testing.assert_close(q.variance, reference(q).variance)


def test_divergence_from_the_prior_sums_over_the_dimensions(make):
    q = make()
    prior = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    law = reference(q)
    if isinstance(law, Independent):
        law = MultivariateNormal(q.mean, law.variance.diag_embed())
    per_dimension = q.kl_per_dimension()
    assert per_dimension.shape == (4, 3)
    assert (per_dimension >= 0).all()
    torch.testing.assert_close(per_dimension.sum(dim=-1), kl_divergence(law, prior))


def test_divergence_between_two(make):
    q, other = make(), make()
    torch.testing.assert_close(q.kl_to(other), kl_divergence(reference(q), reference(other)))
    torch.testing.assert_close(q.kl_to(q), torch.zeros(4).double())


def test_samples_have_the_mean_and_the_covariance(make):
    q = make()
    root = 3**0.5 * torch.eye(3).double()
    noise = torch.cat([root, -root])[:, None].expand(-1, 4, -1)
    z = q.rsample(noise)
    torch.testing.assert_close(z.mean(dim=0), q.mean)
    deviation = z - q.mean
    covariance = torch.einsum("sbi,sbj->bij", deviation, deviation) / 6
    if isinstance(q, FullGaussian):
        torch.testing.assert_close(covariance, q.scale_tril @ q.scale_tril.mT)
    else:
        torch.testing.assert_close(covariance, q.variance.diag_embed())


def test_a_point_mass_scores_the_log_joint_and_has_no_density():
    q = PointMass(randn(4, 3))
    assert torch.equal(q.rsample(randn(2, 4, 3)), q.mean[None])
    torch.testing.assert_close(q.kl_per_dimension(), -Normal(0.0, 1.0).log_prob(q.mean))
    assert not q.variance.any()
    with pytest.raises(InputError, match="take posterior 'laplace'"):
        q.log_prob(randn(2, 4, 3))
    with pytest.raises(InputError, match="the encoder loss 'distill'"):
        q.kl_to(q)


def test_batches_are_taken_apart_and_put_together(make):
    q = make()
    again = stack([q[:1], q[1:]])
    assert type(again) is type(q)
    assert len(q[:1].mean) == 1
    for one, other in zip(vars(again).values(), vars(q).values(), strict=True):
        assert torch.equal(one, other)
