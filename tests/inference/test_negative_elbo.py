"""The inner objectives of a VAE, against closed forms and autograd."""

import math

import pytest
import torch
from linear_gaussian import exact_noise, linear_gaussian, objective_of, randn, start, vae
from torch import Tensor
from torch.func import hessian
from torch.nn.functional import pad

from savi._minimize import minimize
from savi.errors import InputError
from savi.gradients import StopGradient
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import LevenbergMarquardt
from savi.inner.anchored import Proximal
from savi.vae import POSTERIORS, elbo
from savi.vae.distributions import antithetic_noise, common_noise, fresh_noise

CLOSED = sorted(name for name, kind in POSTERIORS.items() if kind.closed_form)
TIGHT = {"rtol": 1e-8, "atol": 1e-8}
EXACT_SOLVE = {"optimizer": LevenbergMarquardt(), "max_steps": 200, "rtol": 0.0, "atol": 1e-11}


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_objective_is_the_negative_bound(name: str, beta: float):
    torch.manual_seed(0)
    model, x = vae(), randn(5, 6)
    family = POSTERIORS[name](3)
    lam = (0.5 * randn(5, family.num_params)).requires_grad_()
    objective = objective_of(model, x, name, beta)
    if family.is_map:
        constant = 0.5 * 3 * math.log(2.0 * math.pi)
        lighter_prior = 0.5 * (1.0 - beta) * lam.square().sum(dim=-1)
        expected = -model.log_joint(x, lam[None])[0] - constant - lighter_prior
    else:
        bound = elbo(model, family.distribution(lam, model), x, exact_noise(5, 3))
        expected = beta * bound.kl - bound.reconstruction
    torch.testing.assert_close(objective(lam), expected)
    value, gradient = objective.gradient(lam.detach())
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), lam)[0])


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_curvature_of_an_affine_decoder_is_the_hessian(name: str, beta: float):
    problem = linear_gaussian()
    objective = objective_of(problem.model, problem.x, name, beta)
    lam = start(problem, name)
    if name == "full_gaussian":
        # With a diagonal factor the bending of z has no entries to drop.
        lam = pad(lam[:, :6], (0, 3))
    exact = objective.linearize(lam).hessian()
    torch.testing.assert_close(objective.curvature(lam), exact)


def test_with_few_samples_the_curvature_is_still_the_hessian_where_nothing_is_dropped():
    problem = linear_gaussian(d=1, dim=4)
    noise = antithetic_noise(2, torch.zeros(5, 1).double())
    family = POSTERIORS["diagonal_gaussian"](1)
    objective = NegativeELBO(problem.model, family, problem.x, lambda step: noise)
    lam = randn(5, 2)
    torch.testing.assert_close(objective.curvature(lam), objective.linearize(lam).hessian())


@pytest.mark.parametrize("name", CLOSED)
def test_the_curvature_is_positive_definite_at_a_curved_decoder(name: str):
    torch.manual_seed(1)
    model, x = vae(gamma=0.01), 3.0 * randn(32, 6)
    family = POSTERIORS[name](3)
    noise = antithetic_noise(2, torch.zeros(32, 3).double())
    objective = NegativeELBO(model, family, x, lambda step: noise)
    lam = randn(32, family.num_params)
    assert (torch.linalg.eigvalsh(objective.curvature(lam)) > 0).all()
    exact = torch.linalg.eigvalsh(objective.linearize(lam).hessian())
    assert (exact <= 0).any()


def test_the_curvature_is_a_constant_unless_a_graph_is_asked_for():
    problem = linear_gaussian()
    objective = objective_of(problem.model, problem.x)
    lam = start(problem).requires_grad_()
    assert not objective.curvature(lam).requires_grad
    probe = randn(5, 6, 6)
    (actual,) = torch.autograd.grad((probe * objective.curvature(lam, True)).sum(), lam)

    def of_lam(lam: Tensor) -> Tensor:
        return (probe * objective.linearize(lam, create_graph=True).by_products(True)).sum()

    (expected,) = torch.autograd.grad(of_lam(lam), lam)
    torch.testing.assert_close(actual, expected)


def test_few_levenberg_marquardt_steps_suffice():
    problem = linear_gaussian(d=4, dim=20, n=16, gamma=0.0625)
    for name in ("diagonal_gaussian", "full_gaussian"):
        family = POSTERIORS[name](4)
        noise = common_noise(2, torch.zeros(16, 4).double(), torch.Generator().manual_seed(0))
        objective = NegativeELBO(problem.model, family, problem.x, noise)
        solution = minimize(
            objective,
            torch.zeros(16, family.num_params).double(),
            optimizer=LevenbergMarquardt(),
            gradient=StopGradient(),
            max_steps=15,
            rtol=1e-4,
        )
        assert (solution.stationarity <= 1e-4).all()


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian", "laplace"])
def test_the_minimiser_is_the_best_posterior(name: str):
    problem = linear_gaussian()
    solution = minimize(
        objective_of(problem.model, problem.x, name),
        start(problem, name),
        gradient=StopGradient(),
        **EXACT_SOLVE,
    )
    best = {
        "diagonal_gaussian": problem.best_diagonal,
        "full_gaussian": problem.best_full,
        "laplace": lambda: problem.posterior_mean,
    }[name]()
    torch.testing.assert_close(solution.value, best, **TIGHT)


def test_the_proximal_objective_and_its_derivatives():
    problem, rho = linear_gaussian(), 2.0
    anchor, lam = start(problem), start(problem)
    base = objective_of(problem.model, problem.x)
    proximal = Proximal(base, anchor, rho)
    penalty = 0.5 * rho * (lam - anchor).square().sum(dim=-1)
    torch.testing.assert_close(proximal(lam), base(lam) + penalty)
    torch.testing.assert_close(proximal.curvature(lam), proximal.linearize(lam).hessian())
    assert proximal.anchored
    assert proximal.gauss_newton
    assert proximal.at_step(3) is proximal
    single = hessian(lambda row: 0.5 * rho * (row - anchor[0]).square().sum())(lam[0])
    torch.testing.assert_close(
        proximal.curvature(lam)[0] - base.curvature(lam)[0], single, rtol=1e-9, atol=1e-9
    )


def test_a_proximal_weight_for_each_example():
    problem = linear_gaussian()
    anchor, lam = start(problem), start(problem)
    base = objective_of(problem.model, problem.x)
    rho = torch.linspace(0.1, 2.0, len(lam), dtype=lam.dtype)
    index = torch.tensor([2, 0])
    proximal = Proximal(base, anchor, rho)
    cut = proximal.rows(index)
    for row, example in enumerate(index.tolist()):
        alone = Proximal(base, anchor, float(rho[example]))
        for name in ("value", "gradient", "curvature", "exact_curvature"):
            one, few, all_ = (getattr(p, name) for p in (alone, cut, proximal))
            expected = one(lam)[1] if name == "gradient" else one(lam)
            got = all_(lam)[1] if name == "gradient" else all_(lam)
            of_few = few(lam[index])[1] if name == "gradient" else few(lam[index])
            torch.testing.assert_close(got[example], expected[example])
            torch.testing.assert_close(of_few[row], expected[example])
    with pytest.raises(InputError, match="one value per example"):
        Proximal(base, anchor, rho[:2])


@pytest.mark.parametrize("rho", [0.0, -1.0, float("nan")])
def test_a_proximal_weight_that_is_not_positive_is_refused(rho: float):
    problem = linear_gaussian()
    with pytest.raises(InputError, match=r"^rho is "):
        Proximal(objective_of(problem.model, problem.x), start(problem), rho)


@pytest.mark.parametrize("proximal", [False, True])
def test_fresh_noise_redraws_the_objective_at_every_step(proximal: bool):
    problem = linear_gaussian()
    lam, family = start(problem), POSTERIORS["diagonal_gaussian"](3)
    noise = fresh_noise(2, lam[:, :3], torch.Generator().manual_seed(0))
    objective = NegativeELBO(problem.model, family, problem.x, noise, stochastic=True)
    if proximal:
        objective = Proximal(objective, lam, 1.0)
    assert objective.stochastic
    first, second, again = (objective.at_step(step)(lam) for step in (1, 2, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_an_example_does_not_see_its_batch():
    problem = linear_gaussian()
    init, noise = start(problem), antithetic_noise(2, torch.zeros(5, 3).double())
    family = POSTERIORS["diagonal_gaussian"](3)

    def solve(rows: slice) -> Tensor:
        objective = NegativeELBO(
            problem.model, family, problem.x[rows], lambda step: noise[:, rows]
        )
        return minimize(
            objective,
            init[rows],
            optimizer=LevenbergMarquardt(),
            gradient=StopGradient(),
            max_steps=4,
        ).value

    together = solve(slice(None))
    for b in range(5):
        torch.testing.assert_close(solve(slice(b, b + 1))[0], together[b], **TIGHT)
