"""The importance-weighted bound and its two gradients, against an affine model's closed forms."""

import pytest
import torch
from closed_forms import log_likelihood
from linear_gaussian import LinearGaussian, exact_noise, linear_gaussian, randn, vae
from torch import Tensor

from savi.vae import POSTERIORS, Bound, elbo
from savi.vae.families import PosteriorFamily
from savi.vae.importance_bound import importance_weighted_bound


def bound_of(
    problem: LinearGaussian, lam: Tensor, noise: Tensor, name: str = "diagonal_gaussian", **options
) -> Bound:
    family: PosteriorFamily = POSTERIORS[name](problem.model.latent_dim)
    q = family.distribution(lam, problem.model)
    z = q.rsample(noise)
    x = problem.x.expand(len(lam), -1)
    return importance_weighted_bound(problem.model, q, x, z, problem.model.decode(z), **options)


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian"])
def test_with_one_sample_it_is_the_elbo(name):
    problem = linear_gaussian()
    family = POSTERIORS[name](3)
    lam = 0.5 * randn(5, family.num_params)
    # Their average is the expectation of whatever is quadratic, as the log weights are.
    each = [bound_of(problem, lam, noise[None], name) for noise in exact_noise(5, 3)]
    mean = torch.stack([bound.importance_weighted for bound in each]).mean(dim=0)
    expected = elbo(
        problem.model, family.distribution(lam, problem.model), problem.x, exact_noise(5, 3)
    )
    torch.testing.assert_close(mean, expected.elbo)


def test_it_tightens_towards_the_exact_evidence():
    problem = linear_gaussian(n=1)
    exact = log_likelihood(problem.x, *problem.theta).detach()
    lam = torch.cat([problem.posterior_mean + 0.1, torch.full((1, 3), -1.5).double()], dim=1)
    gaps = []
    for samples in (1, 8, 64, 512):
        noise = randn(samples, 400, 3)
        bound = bound_of(problem, lam.expand(400, -1), noise).importance_weighted.detach()
        error = 4.5 * bound.std() / 20.0
        gaps.append(float(exact - bound.mean()))
        assert gaps[-1] > -error
    assert gaps[0] > 1.5 * gaps[1] > 2.25 * gaps[2]
    assert abs(gaps[3]) < max(0.1 * gaps[0], float(error))


@pytest.mark.parametrize("samples", [1, 5])
def test_at_the_exact_posterior_it_is_exact_and_its_doubly_reparameterised_gradient_is_zero(
    samples,
):
    problem = linear_gaussian()
    lam = problem.best_full().requires_grad_()
    exact = log_likelihood(problem.x, *problem.theta).detach()
    noise = randn(samples, 5, 3)
    slopes = []
    for doubly in (False, True):
        bound = bound_of(problem, lam, noise, "full_gaussian", doubly=doubly).importance_weighted
        torch.testing.assert_close(bound.detach(), exact)
        slopes.append(torch.autograd.grad(bound.sum(), lam)[0])
    assert slopes[0].abs().max() > 0.1
    torch.testing.assert_close(slopes[1], torch.zeros_like(lam), rtol=0, atol=1e-9)


def test_both_gradients_have_the_same_expectation_and_the_doubly_reparameterised_varies_less():
    problem, copies = linear_gaussian(n=1), 20_000
    # One λ for each copy, so that one backward gives so many draws of the gradient.
    lam = torch.cat([problem.posterior_mean + 0.2, torch.full((1, 3), -1.0).double()], dim=1)
    noise = randn(8, copies, 3)
    draws = []
    for doubly in (False, True):
        leaf = lam.repeat(copies, 1).requires_grad_()
        bound = bound_of(problem, leaf, noise, doubly=doubly).importance_weighted
        draws.append(torch.autograd.grad(bound.sum(), leaf)[0])
    plain, doubly = draws
    error = ((plain.var(dim=0) + doubly.var(dim=0)) / copies).sqrt()
    difference = (plain.mean(dim=0) - doubly.mean(dim=0)).abs()
    assert (difference < 4.5 * error).all()
    assert (plain.mean(dim=0).abs() > 10 * error).any()
    assert (doubly.var(dim=0) < 0.7 * plain.var(dim=0)).all()


def test_the_gradient_in_the_model_is_one_and_the_same():
    model = vae(mode="learned")
    problem, lam, noise = LinearGaussian(model, randn(5, 6)), 0.5 * randn(5, 6), randn(4, 5, 3)
    weights = list(model.parameters())
    assert len(weights) == 5
    slopes = [
        torch.autograd.grad(
            bound_of(problem, lam, noise, doubly=doubly).importance_weighted.sum(), weights
        )
        for doubly in (False, True)
    ]
    torch.testing.assert_close(*slopes)


def test_it_is_stationary_in_a_gamma_that_has_learned_from_its_squared_errors():
    problem = linear_gaussian(mode="optimal")
    variance, lam, noise = problem.model.gamma, problem.best_diagonal(), randn(4, 5, 3)

    def at(gamma: Tensor) -> Bound:
        variance.gamma = gamma
        return bound_of(problem, lam, noise)

    for _ in range(200):
        bound = at(variance.gamma)
        problem.model.likelihood.observe(bound.squared_error)
    gamma = variance.gamma.clone().requires_grad_()
    (slope,) = torch.autograd.grad(at(gamma).importance_weighted.sum(), gamma)
    (away,) = torch.autograd.grad(at(1.1 * gamma).importance_weighted.sum(), gamma)
    assert abs(float(slope)) < 1e-5 * abs(float(away))
