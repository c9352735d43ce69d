"""The bound with its control variate."""

import pytest
import torch
from closed_forms import diagonal_elbo, log_likelihood
from linear_gaussian import linear_gaussian, randn, vae

from savi.evaluation import bounds
from savi.evaluation.bounds import sharp_bound
from savi.vae import DiagonalGaussian, FullGaussian, elbo, monte_carlo
from savi.vae.distributions import antithetic_noise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mode", ["fixed", "per_pixel"])
@pytest.mark.parametrize("samples", [1, 2, 10])
def test_it_is_exact_for_an_affine_decoder(mode: str, samples: int):
    problem = linear_gaussian(mode=mode)
    mean, log_variance = randn(5, 3), randn(5, 3)
    q = DiagonalGaussian(mean, log_variance)
    bound = sharp_bound(problem.model, q, problem.x, samples, seeded())
    exact = diagonal_elbo(mean, log_variance.exp(), problem.x, *problem.theta).detach()
    torch.testing.assert_close(bound, exact)


def test_it_is_exact_for_correlated_codes():
    problem = linear_gaussian()
    scale_tril = torch.linalg.cholesky(torch.linalg.inv(problem.precision)).expand(5, -1, -1)
    exact = log_likelihood(problem.x, *problem.theta).detach()
    q = FullGaussian(problem.posterior_mean, scale_tril)
    torch.testing.assert_close(sharp_bound(problem.model, q, problem.x, 2, seeded()), exact)
    # L[q] = log p(x) − KL(q‖p(z|x)) for any other q.
    other = FullGaussian(randn(5, 3), scale_tril + 0.3 * randn(5, 3, 3).tril(-1))
    expected = exact - other.kl_to(q)
    torch.testing.assert_close(sharp_bound(problem.model, other, problem.x, 4, seeded()), expected)


@pytest.mark.parametrize("typical", [True, False])
def test_for_a_curved_decoder_it_is_right_and_less_noisy(typical: bool):
    torch.manual_seed(0)
    model = vae(d=2, gamma=0.5).requires_grad_(False)
    mean = 0.5 * randn(20, 2)
    # Typical or not: without a fit, the curvature is far from Gauss–Newton's.
    x = model.decode(mean) + 0.7 * randn(20, 6) if typical else 2.0 * randn(20, 6)
    q = DiagonalGaussian(mean, -2.0 + 0.3 * randn(20, 2))
    plain, sharp = [], []
    for seed in range(100):
        noise = antithetic_noise(40, q.mean, seeded(seed))
        plain.append(elbo(model, q, x, noise).elbo)
        sharp.append(sharp_bound(model, q, x, 40, seeded(seed)))
    by_plain, by_sharp = torch.stack(plain), torch.stack(sharp)
    error = by_plain.std(dim=0) / 100**0.5
    assert ((by_sharp - by_plain).mean(dim=0) / error).abs().max() < 4.0
    assert by_sharp.std(dim=0).mean() < (0.7 if typical else 1.0) * by_plain.std(dim=0).mean()


def test_chunks_add_up(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    model, x = vae(d=2).requires_grad_(False), randn(3, 6)
    q = DiagonalGaussian(randn(3, 2), randn(3, 2))
    monkeypatch.setattr(monte_carlo, "CHUNK_ENTRIES", 4 * x.numel())
    assert list(monte_carlo.chunk_sizes(66, x.numel())) == [4] * 16 + [2]
    noise = [antithetic_noise(size, q.mean, seeded(size)) for size in [4] * 16 + [2]]
    halves = [part.chunk(2) for part in noise]
    together = torch.cat([half[0] for half in halves] + [half[1] for half in halves])
    pieces, whole = iter(noise), iter([together])
    monkeypatch.setattr(bounds, "antithetic_noise", lambda *_: next(pieces))
    in_pieces = sharp_bound(model, q, x, 66, seeded())
    monkeypatch.setattr(monte_carlo, "CHUNK_ENTRIES", 2**24)
    monkeypatch.setattr(bounds, "antithetic_noise", lambda *_: next(whole))
    torch.testing.assert_close(in_pieces, sharp_bound(model, q, x, 66, seeded()))
