"""Other priors than N(0, I), against closed forms."""

import math

import pytest
import torch
from linear_gaussian import LinearGaussian, exact_noise, linear_gaussian, randn, vae
from semi_amortized import semi_amortized
from torch import Tensor
from torch.distributions import MultivariateNormal

from savi.errors import InputError
from savi.evaluation import expected_bound, importance_log_likelihood
from savi.evaluation.ais import annealed_log_likelihood, simulate
from savi.evaluation.annealing import Annealing
from savi.evaluation.bounds import sharp_bound
from savi.evaluation.optimum import local_optimum
from savi.evaluation.proposals import laplace_at_mode
from savi.inference.negative_elbo import NegativeELBO
from savi.inference.priors import connect
from savi.registry import Registry
from savi.vae import POSTERIORS, PRIORS, DiagonalGaussian, Prior, elbo
from savi.vae.mutual_information import mutual_information
from savi.vae.priors import MixturePrior, StandardPrior, VampPrior

MODEL = {"kl": {"free_bits": 0.0}}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(d: int = 3, components: int = 3) -> MixturePrior:
    """Components apart from each other, of unequal weights and scales."""
    prior = MixturePrior(d, 6, components).double()
    with torch.no_grad():
        prior.means.copy_(1.5 * randn(components, d))
        prior.log_variances.copy_(-1.0 + 0.5 * randn(components, d))
        prior.logits.copy_(randn(components))
    return prior


def one_standard(d: int = 3) -> MixturePrior:
    """A mixture that is N(0, I)."""
    prior = MixturePrior(d, 6, 1).double()
    torch.nn.init.zeros_(prior.means)
    return prior


def with_prior(prior: Prior, **options) -> LinearGaussian:
    problem = linear_gaussian(d=prior.latent_dim, **options)
    problem.model.prior = prior
    return problem


def evidence(problem: LinearGaussian) -> Tensor:
    """log p(x) of an affine model under a mixture prior: itself a mixture of Gaussians."""
    (w, b, gamma), prior = problem.theta, problem.model.prior
    covariance = w * prior.log_variances.exp()[:, None] @ w.mT + gamma * torch.eye(len(w)).double()
    law = MultivariateNormal(prior.means @ w.mT + b, covariance)
    return (law.log_prob(problem.x[:, None]) + prior.log_weights()).logsumexp(dim=-1).detach()


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian", "point_mass", "laplace"])
def test_a_mixture_of_one_standard_gaussian_is_the_standard_prior(name):
    standard = linear_gaussian()
    model, x, family = standard.model, standard.x, POSTERIORS[name](3)
    lam, noise = 0.5 * randn(len(x), family.num_params), exact_noise(len(x), 3)

    def values() -> list[Tensor]:
        objective = NegativeELBO(model, family, x, lambda step: noise, beta=0.7)
        q = family.distribution(lam, model)
        bound = elbo(model, q, x, noise)
        # Up to the constant that J leaves out for the families whose λ is a code.
        of_zero = objective(torch.zeros_like(lam)) if family.is_map else 0.0
        return [
            objective(lam) - of_zero, *objective.gradient(lam)[1:], objective.curvature(lam),
            objective.exact_curvature(lam), bound.kl, bound.objective(0.7), q.variance,
            expected_bound(model, q, x, 10, seeded()).elbo, model.log_joint(x, randn(2, 5, 3) * 0),
        ]  # fmt: skip

    expected = values()
    model.prior = one_standard()
    torch.testing.assert_close(values(), expected)


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian", "point_mass"])
def test_the_inner_problem_knows_its_derivatives(name):
    model, family = vae(), POSTERIORS[name](3)
    model.prior = mixture()
    x, noise = randn(5, 6), randn(4, 5, 3)
    objective = NegativeELBO(model, family, x, lambda step: noise, beta=0.7)
    lam = 0.5 * randn(5, family.num_params)
    assert objective.closed_gradient
    value, gradient = objective.gradient(lam)
    torch.testing.assert_close(value, objective(lam).detach())
    at = lam.clone().requires_grad_()
    (expected,) = torch.autograd.grad(objective(at).sum(), at, create_graph=True)
    torch.testing.assert_close(gradient, expected.detach())
    rows = [torch.autograd.grad(g.sum(), at, retain_graph=True)[0] for g in expected.unbind(1)]
    torch.testing.assert_close(objective.exact_curvature(lam), torch.stack(rows, dim=1))
    assert (torch.linalg.eigvalsh(objective.curvature(lam)) > -1e-12).all()
    few = objective.rows(torch.tensor([3, 1]))
    torch.testing.assert_close(few(lam[[3, 1]]), objective(lam)[[3, 1]])


def test_the_precision_of_a_mixture_is_that_of_its_components_weighed_by_their_shares():
    prior, z = mixture(), randn(4, 3)
    assert (torch.linalg.eigvalsh(prior.precision(z)) > 0).all()
    one = mixture(components=1)
    torch.testing.assert_close(one.precision(z), -one.hessian(z))
    torch.testing.assert_close(
        StandardPrior(3, 6).precision(z).expand(4, 3, 3), -one_standard().hessian(z)
    )


def test_bounds_and_estimates_agree_with_the_exact_evidence():
    problem = with_prior(mixture(2), n=4, gamma=0.4)
    exact, model, x = evidence(problem), problem.model, problem.x
    q0 = laplace_at_mode(model, x, torch.zeros(4, 2).double())
    annealed = annealed_log_likelihood(model, x, Annealing(32, 60), seeded(), q0)
    error = annealed.log_likelihood - exact
    assert (error.abs() < 4.5 * annealed.standard_error + 1e-3).all()
    from_normal = annealed_log_likelihood(model, x, Annealing(32, 60), seeded())
    assert ((from_normal.log_likelihood - exact).abs() < 4.5 * from_normal.standard_error).all()

    family = POSTERIORS["full_gaussian"](2)
    optimum = local_optimum(
        model, family, x, torch.zeros(4, family.num_params).double(), steps=50, generator=seeded()
    )
    assert not optimum.failed.any()
    q = family.distribution(optimum.value, model)
    weighted = importance_log_likelihood(model, q, x, 20_000, seeded())
    spread = 1.0 / weighted.effective_samples.sqrt()
    assert ((weighted.log_likelihood - exact).abs() < 4.5 * spread).all()
    bound = sharp_bound(model, q, x, 4000, seeded())
    plain = expected_bound(model, q, x, 20_000, seeded()).elbo
    torch.testing.assert_close(bound, plain, rtol=0, atol=0.03)
    assert (bound < exact + 1e-3).all()
    assert (bound > exact - 1.0).all()


def test_the_laplace_approximation_is_exact_for_one_gaussian_component():
    prior = mixture(components=1)
    problem = with_prior(prior)
    (w, b, gamma), precision = problem.theta, torch.diag((-prior.log_variances[0]).exp())
    posterior = precision + w.mT @ w / gamma
    right = prior.means[0] @ precision + (problem.x - b) @ w / gamma
    q = laplace_at_mode(problem.model, problem.x, randn(5, 3))
    torch.testing.assert_close(q.precision, posterior.expand(5, 3, 3).detach())
    torch.testing.assert_close(
        q.mean, torch.linalg.solve(posterior, right, left=False).detach(), rtol=0, atol=1e-6
    )
    bound = sharp_bound(problem.model, q, problem.x, 64, seeded())
    torch.testing.assert_close(bound, evidence(problem), rtol=0, atol=1e-6)


def test_samples_have_the_moments_of_the_prior():
    prior = mixture(2)
    problem = with_prior(prior)
    z, _ = simulate(problem.model, 20_000, seeded())
    weights, means = prior.log_weights().exp().detach(), prior.means.detach()
    mean = weights @ means
    second = torch.einsum("c,ci,cj->ij", weights, means, means)
    covariance = (
        second + torch.diag(weights @ prior.log_variances.detach().exp()) - mean.outer(mean)
    )
    torch.testing.assert_close(z.mean(dim=0), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(z.mT.cov(), covariance, rtol=0, atol=0.1)
    torch.testing.assert_close(prior.sample(5, seeded(1)), prior.sample(5, seeded(1)))


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian"])
def test_a_vamp_prior_whose_pseudo_inputs_are_the_data_is_the_aggregated_posterior(name):
    problem, inference = linear_gaussian(n=40), semi_amortized(name)
    prior = VampPrior(3, 6, 40).double()
    connect(prior, inference, MODEL)
    with torch.no_grad():
        prior.pseudo_inputs.copy_(problem.x)
        q = inference.family.distribution(inference.start(problem.x), problem.model)
        noise = randn(1, 40, 3)
        z = q.rsample(noise)[0]
        each = torch.stack([q[n : n + 1].log_prob(z.unsqueeze(1))[:, 0] for n in range(40)])
        torch.testing.assert_close(prior.log_prob(z), each.logsumexp(dim=0) - math.log(40))
        # Hoffman and Johnson 2016: the KL from the aggregated posterior is the mutual information.
        kl = (q.log_prob(z.unsqueeze(0))[0] - prior.log_prob(z)).mean()
    assert float(kl) == pytest.approx(mutual_information(q, noise))


def test_the_encoder_and_the_pseudo_inputs_learn_from_the_bound():
    problem, inference = linear_gaussian(), semi_amortized()
    problem.model.prior = prior = VampPrior(3, 6, 4).double()
    connect(prior, inference, MODEL)
    assert [name for name, _ in prior.named_parameters()] == ["pseudo_inputs"]
    q = DiagonalGaussian(randn(5, 3), randn(5, 3))
    elbo(problem.model, q, problem.x, randn(2, 5, 3)).elbo.sum().backward()
    assert prior.pseudo_inputs.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in inference.encoder.parameters())


@pytest.mark.parametrize(
    ("posterior", "encoder", "said"),
    [
        (
            "diagonal_gaussian",
            False,
            "'vamp' with model.encoder 'none', which.*: set model.prior",
        ),
        ("laplace", True, "'vamp' with posterior 'laplace', in which the encoder alone"),
    ],
)
def test_what_a_vamp_prior_cannot_be_made_of_is_refused(posterior, encoder, said):
    inference = semi_amortized(posterior, encoder=encoder, max_steps=0)
    with pytest.raises(InputError, match=said):
        connect(VampPrior(3, 6, 2), inference, MODEL)
    with pytest.raises(InputError, match=r"'vamp' with model\.kl\.free_bits, which split"):
        connect(VampPrior(3, 6, 2), inference, {"kl": {"free_bits": 0.1}})


def test_pseudo_inputs_have_neither_labels_nor_words():
    inference = semi_amortized()
    with pytest.raises(InputError, match=r"'vamp' with model\.condition 'labels', which asks for"):
        connect(VampPrior(3, 6, 2), inference, MODEL | {"condition": "labels"})
    with pytest.raises(InputError, match=r"'vamp' with model\.encoder 'lstm', which reads words"):
        connect(VampPrior(3, 6, 2), inference, MODEL | {"encoder": "lstm"})


def test_a_prior_of_ones_own_needs_a_density_and_samples():
    assert isinstance(PRIORS, Registry)

    class Cauchy(Prior):
        def log_prob(self, z):
            return -torch.log1p(z.square()).sum(dim=-1) - self.latent_dim * math.log(math.pi)

        def sample(self, n, generator=None, dtype=None):
            return torch.rand(n, self.latent_dim, generator=generator, dtype=dtype).logit()

    prior, z = Cauchy(3, 6), randn(4, 3)
    torch.testing.assert_close(prior.score(z), -2 * z / (1 + z.square()))
    second = 2 * (1 - z.square()) / (1 + z.square()).square()
    torch.testing.assert_close(prior.precision(z), torch.diag_embed(second))
