"""The variational distributions."""

import pytest
import torch
from linear_gaussian import randn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from savi.errors import InputError
from savi.vae import DiagonalGaussian, FullGaussian, PointMass, Posterior
from savi.vae.distributions import (
    antithetic_noise,
    common_noise,
    fresh_noise,
    orthogonal_noise,
    stack,
)


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


LIKE = torch.zeros(4, 3, dtype=torch.float64)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("draw", [antithetic_noise, orthogonal_noise])
@pytest.mark.parametrize("samples", [1, 2, 5, 6, 7, 13])
def test_samples_come_in_pairs(draw, samples: int):
    noise = draw(samples, LIKE, seeded())
    assert noise.shape == (samples, 4, 3)
    assert noise.dtype == torch.float64
    pairs = samples // 2
    first, second = noise[:pairs], noise[samples - pairs :]
    assert torch.equal(first, -second)


def test_antithetic_samples_are_standard_normal():
    noise = antithetic_noise(20_000, LIKE, seeded()).flatten(0, 1)
    torch.testing.assert_close(torch.cov(noise.mT), torch.eye(3).double(), rtol=0, atol=0.03)
    assert float((noise**4).mean()) == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("samples", [6, 12, 30])
def test_whole_orthogonal_groups_have_exact_second_moments(samples: int):
    noise = orthogonal_noise(samples, LIKE, seeded())
    moments = torch.einsum("sbi,sbj->bij", noise, noise) / samples
    torch.testing.assert_close(moments, torch.eye(3).double().expand(4, -1, -1))


def test_partial_orthogonal_groups_are_unbiased():
    many = torch.zeros(20_000, 3, dtype=torch.float64)
    for samples in (2, 4):
        noise = orthogonal_noise(samples, many, seeded())
        torch.testing.assert_close(
            noise.square().sum(dim=-1), torch.full((samples, 20_000), 3.0).double()
        )
        moments = torch.einsum("sbi,sbj->ij", noise, noise) / (samples * 20_000)
        torch.testing.assert_close(moments, torch.eye(3).double(), rtol=0, atol=0.03)
    first, second = orthogonal_noise(4, LIKE, seeded())[:2]
    torch.testing.assert_close(
        (first * second).sum(dim=-1), torch.zeros(4).double(), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("schedule", [common_noise, fresh_noise])
def test_a_schedule_repeats_itself(schedule):
    noise, again = schedule(4, LIKE, seeded()), schedule(4, LIKE, seeded())
    other = schedule(4, LIKE, torch.Generator().manual_seed(4))
    for step in (0, 1, 7, 0):
        assert torch.equal(noise(step), noise(step))
        assert torch.equal(noise(step), again(step))
        assert not torch.equal(noise(step), other(step))


def test_common_noise_is_shared_by_all_steps_and_fresh_noise_by_none():
    common, fresh = common_noise(4, LIKE), fresh_noise(4, LIKE)
    assert torch.equal(common(0), common(9))
    draws = [fresh(step) for step in range(4)]
    assert len({float(draw[0, 0, 0]) for draw in draws}) == 4


def test_the_global_seed_decides_where_there_is_no_generator():
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append((common_noise(4, LIKE)(0), fresh_noise(4, LIKE)(1), randn(2)))
    for one, other in zip(*draws, strict=True):
        assert torch.equal(one, other)
