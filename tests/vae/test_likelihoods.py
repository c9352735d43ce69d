"""What every registered likelihood has to give, against sums and integrals over all x."""

import math

import pytest
import torch
from linear_gaussian import randn
from torch import Tensor, nn

from savi.config.schema import with_defaults
from savi.errors import InputError
from savi.implicit.smoothness import kinked_operations
from savi.inference.negative_elbo import NegativeELBO
from savi.vae import (
    DECODERS,
    LIKELIHOODS,
    POSTERIORS,
    VAE,
    DiagonalGaussian,
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
    elbo,
)
from savi.vae.data_fit import DataFit, data_fit
from savi.vae.distributions import common_noise
from savi.vae.likelihoods.base import SUPPORTS

NAMES = ["gaussian", "bernoulli", "continuous_bernoulli", "laplace"]
#: Those with more than one output for an entry, which have a file of their own.
OTHERS = ["categorical", "logistic_mixture"]
D = 7
#: Outputs from far below to far above 0, and at it.
OUTPUTS = torch.tensor([-12.0, -2.0, -0.4, 0.0, 0.3, 1.7, 9.0], dtype=torch.float64)


def likelihood_of(name: str, dim: int = D) -> Likelihood:
    made = LIKELIHOODS[name].of(with_defaults("model", {"likelihood": name}), dim, 0.4)
    return made.double()


def everything(name: str) -> tuple[Tensor, Tensor]:
    """All values of an entry of x, and the weights of a sum, or of an integral, over them."""
    support = LIKELIHOODS[name].support
    if support == "binary":
        return torch.tensor([0.0, 1.0]).double(), torch.ones(2).double()
    low, high = {"unit": (0.0, 1.0), "real": (-25.0, 25.0)}[support]
    edges = torch.linspace(low, high, 20_001, dtype=torch.float64)
    weights = torch.full_like(edges, (high - low) / 20_000)
    weights[[0, -1]] *= 0.5
    return edges, weights


def observations(name: str, n: int, dim: int = D) -> Tensor:
    x = torch.rand(n, dim, dtype=torch.float64)
    return x.round() if LIKELIHOODS[name].support == "binary" else x


def model_of(name: str, d: int = 2, n: int = 5) -> tuple[VAE, Tensor, Tensor]:
    torch.manual_seed(0)
    decoder = DECODERS["mlp"](d, (D,), hidden=6, depth=1, activation="tanh")
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.8)
    return VAE(decoder, likelihood_of(name), d).double(), observations(name, n), randn(n, d)


def test_every_registered_likelihood_is_tried_here():
    own = [name for name, cls in LIKELIHOODS.items() if cls.__module__.startswith("savi.")]
    assert sorted(own) == sorted(NAMES + OTHERS)
    assert all(LIKELIHOODS[name].support in SUPPORTS for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_density_mean_and_fisher_weight_agree_with_sums_over_all_x(name: str):
    likelihood = likelihood_of(name, 1)
    values, weights = everything(name)
    x, o = values[:, None, None], OUTPUTS[None, :, None]
    density = likelihood.log_density(x, o).exp() * weights[:, None, None]
    # A kink costs the trapezoidal rule some of its digits.
    allowed = {"rtol": 1e-7, "atol": 1e-9} if likelihood.smooth else {"rtol": 2e-5, "atol": 1e-5}
    torch.testing.assert_close(density.sum(0), torch.ones(len(OUTPUTS), 1).double(), **allowed)
    torch.testing.assert_close((density * x).sum(0), likelihood.mean(o)[0], rtol=1e-4, atol=1e-5)
    score = likelihood.score(x, o)
    information = (density * score.square()).sum(0)
    torch.testing.assert_close(information, likelihood.fisher(o)[0], rtol=2e-2, atol=0)
    if likelihood.smooth:
        bending = (density * likelihood.curvature(x, o)).sum(0)
        torch.testing.assert_close(bending, likelihood.fisher(o)[0])
        torch.testing.assert_close(information, likelihood.fisher(o)[0])
    assert (likelihood.fisher(o) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_score_and_curvature_are_derivatives(name: str):
    likelihood, x = likelihood_of(name), observations(name, 2)
    o = (OUTPUTS + randn(2, D)).requires_grad_()
    assert torch.autograd.gradcheck(lambda o: likelihood.log_prob(x, o), o)
    assert torch.autograd.gradgradcheck(lambda o: likelihood.log_prob(x, o), o)
    assert torch.autograd.gradcheck(lambda o: likelihood.fisher(o), o)
    (by_autograd,) = torch.autograd.grad(likelihood.log_prob(x, o).sum(), o, create_graph=True)
    torch.testing.assert_close(likelihood.score(x, o), by_autograd)
    (slope,) = torch.autograd.grad(by_autograd.sum(), o, allow_unused=True)
    torch.testing.assert_close(likelihood.curvature(x, o), -slope)
    # What a user's own likelihood gets without a line of it.
    torch.testing.assert_close(Likelihood.score(likelihood, x, o), by_autograd)
    torch.testing.assert_close(Likelihood.curvature(likelihood, x, o), -slope)


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_mean_and_are_possible(name: str):
    likelihood, n = likelihood_of(name), 4_000
    o = OUTPUTS.expand(n, D)
    x = likelihood.sample(o, torch.Generator().manual_seed(0))
    error = (x.mean(0) - likelihood.mean(OUTPUTS)).abs()
    assert (error <= 4.5 * x.std(0) / math.sqrt(n) + 1e-3).all()
    assert torch.isfinite(likelihood.log_prob(x, o)).all()
    assert torch.equal(likelihood.sample(o, torch.Generator().manual_seed(0)), x)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_finite_in_single_precision_wherever_the_outputs_are(name: str):
    likelihood = likelihood_of(name, 1).float()
    o = torch.tensor([-1e4, -90.0, -1e-3, -1e-12, 0.0, 1e-12, 1e-3, 90.0, 1e4])[:, None]
    o = o.requires_grad_()
    x = torch.ones_like(o)
    values = likelihood.log_prob(x, o)
    (slope,) = torch.autograd.grad(values.sum(), o)
    found = (values, slope, likelihood.mean(o), likelihood.fisher(o), likelihood.score(x, o))
    assert all(torch.isfinite(value).all() for value in found)
    near = o.detach()[2:7]
    exact = likelihood_of(name, 1)
    for function in (likelihood.mean, likelihood.fisher):
        double = getattr(exact, function.__name__)(near.double())
        torch.testing.assert_close(function(near).double(), double, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_closed_derivatives_in_the_code_are_those_of_autograd(name: str):
    model, x, z = model_of(name)
    fit, codes = DataFit.direct(model, x), z.unsqueeze(0).requires_grad_()
    value, slope = fit.gradient(codes.detach())
    torch.testing.assert_close(value, fit(codes).detach())
    torch.testing.assert_close(value[0], model.likelihood(x, model.decode(codes))[0][0].detach())
    (by_autograd,) = torch.autograd.grad(fit(codes).sum(), codes)
    torch.testing.assert_close(slope, by_autograd)
    steep, hessian = fit.second_order(codes.detach())
    torch.testing.assert_close(steep, -slope)
    for n in range(len(x)):
        exact = torch.autograd.functional.hessian(
            lambda code, n=n: -model.likelihood(x[n : n + 1], model.decode(code[None, None]))[0][0],
            z[n],
        )
        torch.testing.assert_close(hessian[0, n], exact.squeeze(0))


@pytest.mark.parametrize("name", NAMES)
def test_gauss_newton_weighs_tangents_by_the_fisher_weight(name: str):
    model, x, z = model_of(name)
    rows = torch.stack([torch.autograd.functional.jacobian(model.decode, code) for code in z]).mT
    weight = model.likelihood.fisher(model.decode(z)).detach()
    exact = (rows * weight.unsqueeze(-2)) @ rows.mT
    with torch.no_grad():
        torch.testing.assert_close(DataFit.direct(model, x).gram(z), exact)
        torch.testing.assert_close(model.gram(z), exact)
    torch.testing.assert_close(DataFit.direct(model, x).gram(z), exact)
    torch.testing.assert_close(model.gram(z.requires_grad_()), exact)
    assert torch.autograd.gradcheck(model.gram, z)
    identity = torch.eye(2).double()
    torch.testing.assert_close(model.precision(z, 2.0), identity + exact / 2.0)


@pytest.mark.parametrize("family", ["diagonal_gaussian", "full_gaussian", "point_mass"])
@pytest.mark.parametrize("name", NAMES)
def test_the_inner_problem_knows_its_own_derivatives(name: str, family: str):
    model, x, _ = model_of(name)
    posterior = POSTERIORS[family](2)
    noise = common_noise(4, x.new_zeros(len(x), 2), torch.Generator().manual_seed(0))
    objective = NegativeELBO(model, posterior, x, noise)
    y = (0.3 * randn(len(x), posterior.num_params)).requires_grad_()
    value = objective(y)
    (slope,) = torch.autograd.grad(value.sum(), y)
    torch.testing.assert_close(objective.gradient(y.detach())[1], slope)
    closed = objective.exact_curvature(y.detach())
    torch.testing.assert_close(closed, objective.exact_curvature(y, create_graph=True).detach())


def test_only_a_quadratic_one_is_solved_by_its_head():
    for name in NAMES:
        model, x, z = model_of(name)
        fit = data_fit(model, x, z, codes=10**6)
        assert (fit.network is not model.decoder) == (name == "gaussian")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gaussian"])
def test_a_variance_that_it_does_not_have_is_refused(name: str):
    for gamma, key in (({"mode": "fixed"}, "mode"), ({"value": 0.1}, "value")):
        model = with_defaults("model", {"likelihood": name, "gamma": gamma})
        with pytest.raises(InputError, match=rf"model.gamma.{key} is .* has no variance γ: set"):
            LIKELIHOODS[name].of(model, 3, 1.0)
    assert likelihood_of(name).figures().get("gamma") is None


def test_the_scale_of_a_laplace_density_is_the_best_one():
    model, x, z = model_of("laplace")
    likelihood = model.likelihood
    assert isinstance(likelihood, LaplaceLikelihood)
    assert float(likelihood.b) == pytest.approx(math.sqrt(0.4 / 2.0))
    q = DiagonalGaussian(z, torch.full_like(z, -1.0))
    noise = randn(6, *z.shape)
    bound = elbo(model, q, x, noise)
    assert bound.deviation is not None
    best = bound.reconstruction.mean()
    for factor in (0.9, 1.1):
        b = factor * bound.deviation.mean() / D
        other = -bound.deviation.mean() / b - D * (2.0 * b).log()
        assert other < best
    before = likelihood.b.clone()
    for _ in range(100):
        likelihood.observe(bound.squared_error, bound.deviation)
    assert float(likelihood.b) == pytest.approx(float(bound.deviation.mean()) / D, rel=1e-3)
    model.eval()
    inside = model.likelihood(x, model.decode(q.rsample(noise)))[0].mean()
    torch.testing.assert_close(inside, best, rtol=1e-5, atol=1e-6)
    assert float(before) != float(likelihood.b)


def test_the_gaussian_one_starts_at_the_variance_of_the_data():
    likelihood = likelihood_of("gaussian")
    assert isinstance(likelihood, GaussianLikelihood)
    assert float(likelihood.gamma()) == pytest.approx(0.4)
    assert float(likelihood.figures()["gamma"]) == pytest.approx(0.4)


@pytest.mark.parametrize("name", NAMES)
def test_only_a_kink_is_told_of_as_one(name: str):
    """What looks for kinks in the graph of an inner problem finds those that there are."""
    likelihood, x = likelihood_of(name), observations(name, 2)
    o = randn(2, D).requires_grad_()
    value = likelihood.log_prob(x, o).sum()
    (slope,) = torch.autograd.grad(value, o, create_graph=True)
    assert bool(kinked_operations(slope, o)) != likelihood.smooth
