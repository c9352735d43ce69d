"""Monte Carlo estimates of the bound and of the log-likelihood."""

import pytest
import torch
from closed_forms import log_likelihood
from linear_gaussian import linear_gaussian, randn

from savi.errors import InputError
from savi.evaluation import expected_bound, importance_log_likelihood
from savi.vae import POSTERIORS, DiagonalGaussian, elbo, monte_carlo


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["full_gaussian", "laplace"])
@pytest.mark.parametrize("samples", [1, 2, 7])
def test_the_exact_posterior_gives_the_exact_likelihood(name: str, samples: int):
    problem = linear_gaussian()
    lam = problem.best_full() if name == "full_gaussian" else problem.posterior_mean
    q = POSTERIORS[name](3).distribution(lam, problem.model)
    estimate = importance_log_likelihood(problem.model, q, problem.x, samples, seeded())
    exact = log_likelihood(problem.x, *problem.theta).detach()
    torch.testing.assert_close(estimate.log_likelihood, exact)
    torch.testing.assert_close(estimate.bound, exact)
    torch.testing.assert_close(
        estimate.effective_samples, torch.full((5,), float(samples)).double()
    )


def test_any_posterior_comes_within_its_own_error_of_the_exact_likelihood():
    problem = linear_gaussian(n=64)
    q = DiagonalGaussian(*problem.best_diagonal().chunk(2, dim=-1))
    exact = log_likelihood(problem.x, *problem.theta).detach()
    estimate = importance_log_likelihood(problem.model, q, problem.x, 4000, seeded())
    # Pairs depend on each other, so at worst only one of each pair counts.
    error = (2.0 / estimate.effective_samples - 2.0 / 4000).sqrt()
    standardised = (estimate.log_likelihood - exact) / error
    assert standardised.abs().max() < 6.0
    assert 0.3 < standardised.std() < 1.5
    assert (estimate.effective_samples < 4000).all()
    assert error.max() < 0.3


def test_the_bound_lies_below_and_more_samples_tighten_it():
    problem = linear_gaussian(n=64)
    q = DiagonalGaussian(randn(64, 3), randn(64, 3))
    exact = log_likelihood(problem.x, *problem.theta).detach().mean()
    few, many = (
        importance_log_likelihood(problem.model, q, problem.x, samples, seeded())
        for samples in (2, 2000)
    )
    assert (many.bound <= many.log_likelihood).all()
    assert few.log_likelihood.mean() < many.log_likelihood.mean() < exact + 0.1


def test_the_effective_sample_size_against_its_formula():
    problem = linear_gaussian()
    q = DiagonalGaussian(*problem.best_diagonal().chunk(2, dim=-1))
    estimate = importance_log_likelihood(problem.model, q, problem.x, 40, seeded())
    noise = monte_carlo.antithetic_noise(40, q.mean, seeded())
    z = q.rsample(noise)
    weight = (problem.model.log_joint(problem.x, z) - q.log_prob(z)).exp()
    expected = weight.sum(dim=0).square() / weight.square().sum(dim=0)
    torch.testing.assert_close(estimate.effective_samples, expected.detach())
    torch.testing.assert_close(estimate.log_likelihood, weight.mean(dim=0).log().detach())


def test_the_expected_bound_with_the_closed_form_divergence():
    problem = linear_gaussian(mode="optimal")
    lam = problem.best_diagonal()
    q = DiagonalGaussian(*lam.chunk(2, dim=-1))
    bound = expected_bound(problem.model, q, problem.x, 8, seeded())
    problem.model.eval()
    noise = monte_carlo.antithetic_noise(8, q.mean, seeded())
    expected = elbo(problem.model, q, problem.x, noise)
    torch.testing.assert_close(bound.elbo, expected.elbo.detach())
    torch.testing.assert_close(bound.squared_error, expected.squared_error)
    torch.testing.assert_close(bound.kl_per_dimension, expected.kl_per_dimension)


def test_chunks_add_up(monkeypatch: pytest.MonkeyPatch):
    # 4 · 4 · 1 normals make a chunk of noise, which torch draws as it draws the whole.
    problem = linear_gaussian(d=1, n=8)
    q = DiagonalGaussian(*problem.best_diagonal().chunk(2, dim=-1))

    def estimates():
        estimate = importance_log_likelihood(problem.model, q, problem.x, 22, seeded())
        bound = expected_bound(problem.model, q, problem.x, 22, seeded())
        return (*estimate, bound.reconstruction, bound.squared_error)

    def noise(samples, like, generator):
        """Slices of one stream, so that pieces and whole see the same samples."""
        half = torch.randn(samples // 2, 16, dtype=torch.float64, generator=generator)[:, :8, None]
        return torch.cat([half, -half])

    monkeypatch.setattr(monte_carlo, "antithetic_noise", noise)
    whole = estimates()
    assert list(monte_carlo.chunk_sizes(22, problem.x.numel())) == [22]
    monkeypatch.setattr(monte_carlo, "CHUNK_ENTRIES", 5 * problem.x.numel())
    assert list(monte_carlo.chunk_sizes(22, problem.x.numel())) == [4, 4, 4, 4, 4, 2]
    for one, other in zip(estimates(), whole, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("samples", [1, 2, 5, 64, 500])
def test_chunks_are_even_but_the_last_and_never_empty(samples: int):
    for entries in (1, 10**6, 2**22, 10**9):
        sizes = list(monte_carlo.chunk_sizes(samples, entries))
        assert sum(sizes) == samples
        assert all(size % 2 == 0 for size in sizes[:-1])
        assert all(size * entries <= monte_carlo.CHUNK_ENTRIES or size <= 2 for size in sizes)


@pytest.mark.parametrize("entries", [2 * 6, 2 * 6 * 3, 1])
def test_a_batch_too_large_for_a_chunk_is_taken_in_pieces(
    monkeypatch: pytest.MonkeyPatch, entries: int
):
    problem = linear_gaussian(n=8)
    q = DiagonalGaussian(*problem.best_diagonal().chunk(2, dim=-1))
    decoded = []
    monkeypatch.setattr(monte_carlo, "CHUNK_ENTRIES", entries)
    problem.model.decoder.register_forward_hook(lambda *call: decoded.append(call[-1].numel()))
    estimate = importance_log_likelihood(problem.model, q, problem.x, 300, seeded())
    expected_bound(problem.model, q, problem.x, 300, seeded())
    assert max(decoded) <= max(entries, 2 * 6)
    assert sum(decoded) == 2 * 300 * 8 * 6
    exact = log_likelihood(problem.x, *problem.theta).detach()
    torch.testing.assert_close(estimate.log_likelihood, exact, rtol=0, atol=0.6)
    assert float((estimate.log_likelihood - exact).mean()) == pytest.approx(0.0, abs=0.2)


def test_progress_rises_to_the_whole(monkeypatch: pytest.MonkeyPatch):
    problem, seen = linear_gaussian(n=8), []
    q = DiagonalGaussian(*problem.best_diagonal().chunk(2, dim=-1))
    for entries, calls in ((2**24, 1), (4 * 8 * 6, 3), (2 * 3 * 6, 3 * 5)):
        monkeypatch.setattr(monte_carlo, "CHUNK_ENTRIES", entries)
        importance_log_likelihood(problem.model, q, problem.x, 10, seeded(), seen.append)
        assert len(seen) == calls
        assert seen == sorted(set(seen))
        assert seen[-1] == pytest.approx(1.0)
        seen.clear()


@pytest.mark.parametrize("entries", [5, 6 * 10, 10**9])
def test_slices_of_examples_cover_them_all(monkeypatch: pytest.MonkeyPatch, entries: int):
    monkeypatch.setattr(monte_carlo, "CHUNK_ENTRIES", entries)
    slices = list(monte_carlo.example_slices(35, 6))
    assert [i for part in slices for i in range(35)[part]] == list(range(35))
    assert all((part.stop - part.start) * 6 <= max(entries, 6) for part in slices)


def test_no_samples_are_refused():
    problem = linear_gaussian()
    q = DiagonalGaussian(*problem.best_diagonal().chunk(2, dim=-1))
    for estimator in (importance_log_likelihood, expected_bound):
        with pytest.raises(InputError, match="samples is 0"):
            estimator(problem.model, q, problem.x, 0, seeded())
