"""Derivatives of the inner solutions of a VAE, against closed forms and finite differences."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from closed_forms import (
    diagonal_elbo,
    gradient_steps,
    gradient_steps_jacobian,
    log_likelihood,
    proximal_jacobian,
)
from linear_gaussian import (
    LinearGaussian,
    exact_noise,
    linear_gaussian,
    objective_of,
    randn,
    start,
    vae,
)
from torch import Tensor
from torch.nn.functional import pad

from savi._minimize import minimize
from savi.gradients import Implicit, StopGradient, Unrolled
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import GradientDescent, LevenbergMarquardt
from savi.inner.anchored import Proximal
from savi.vae import POSTERIORS, GaussianVAE, elbo
from savi.vae.distributions import antithetic_noise

TIGHT = {"rtol": 1e-8, "atol": 1e-8}
EXACT_SOLVE = {"optimizer": LevenbergMarquardt(), "max_steps": 200, "rtol": 0.0, "atol": 1e-11}


@pytest.mark.parametrize("steps", [0, 1, 5, 20])
def test_gradient_steps_contract_the_mean_and_its_derivative(steps: int):
    problem = linear_gaussian()
    lam = start(problem).requires_grad_()
    lr = 0.05
    noise = antithetic_noise(2, torch.zeros(5, 3).double())
    family = POSTERIORS["diagonal_gaussian"](3)
    value = minimize(
        NegativeELBO(problem.model, family, problem.x, lambda step: noise),
        lam,
        optimizer=GradientDescent(lr=lr),
        gradient=Unrolled(),
        max_steps=steps,
        rtol=0.0,
    ).value[:, :3]
    expected = gradient_steps(
        lam.detach()[:, :3], problem.posterior_mean, problem.precision, lr, steps
    )
    torch.testing.assert_close(value, expected)
    rows = [torch.autograd.grad(value[:, i].sum(), lam, retain_graph=True)[0] for i in range(3)]
    jacobian = torch.stack(rows, dim=1)
    by_mean = gradient_steps_jacobian(problem.precision, lr, steps)
    # The log variances have no influence on the mean: their effects cancel in antithetic pairs.
    torch.testing.assert_close(jacobian, pad(by_mean, (0, 3)).expand(5, -1, -1))


def exact_bound(problem: LinearGaussian, name: str) -> Tensor:
    """The maximum over the family of the exact ELBO, differentiable in θ."""
    evidence = log_likelihood(problem.x, *problem.theta).sum()
    if name == "full_gaussian":
        return evidence
    lam = problem.best_diagonal()
    # By the envelope theorem the best q may be held constant.
    return diagonal_elbo(lam[:, :3], lam[:, 3:].exp(), problem.x, *problem.theta).sum()


LONG_UNROLL = {
    "optimizer": GradientDescent(lr=0.1),
    "gradient": Unrolled(),
    "max_steps": 200,
    "rtol": 0.0,
}
BACKENDS = {
    "unrolled": LONG_UNROLL,
    "ift cholesky": {"gradient": Implicit(solver="cholesky"), **EXACT_SOLVE},
    "ift cg": {"gradient": Implicit(solver="cg", rtol=1e-12), **EXACT_SOLVE},
    "stop": {"gradient": StopGradient(), **EXACT_SOLVE},
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian"])
def test_the_gradient_of_the_bound_at_the_solution(backend: str, name: str):
    problem = linear_gaussian(mode="learned", gamma=0.5)
    theta = list(problem.model.parameters())
    objective = objective_of(problem.model, problem.x, name)
    best = problem.best_diagonal() if name == "diagonal_gaussian" else problem.best_full()
    init = best + 0.1 * randn(*best.shape) if backend == "unrolled" else start(problem, name)
    lam = minimize(objective, init, **BACKENDS[backend]).value
    q = objective.family.distribution(lam, problem.model)
    actual = torch.autograd.grad(
        elbo(problem.model, q, problem.x, exact_noise(5, 3)).elbo.sum(), theta
    )
    expected = torch.autograd.grad(exact_bound(problem, name), theta)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("backend", ["unrolled", "ift cholesky", "ift cg"])
def test_the_gradient_of_another_outer_loss_at_a_curved_decoder(backend: str):
    torch.manual_seed(0)
    model = vae(mode="learned", gamma=0.5)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter *= 0.5
        x = model.decode(randn(5, 3))
    init, probe = torch.zeros(5, 6).double(), randn(5, 6)
    directions = [randn(*p.shape) for p in model.parameters()]
    quick = EXACT_SOLVE | {"gradient": Unrolled(), "max_steps": 60}

    def loss_at(distance: float, **settings: Any) -> tuple[Tensor, GaussianVAE]:
        """The loss at a solution computed anew for θ moved along the direction."""
        moved = deepcopy(model)
        with torch.no_grad():
            for parameter, direction in zip(moved.parameters(), directions, strict=True):
                parameter += distance * direction
        value = minimize(objective_of(moved, x), init, **settings).value
        return (probe * value).sum(), moved

    loss, same = loss_at(0.0, **(quick if backend == "unrolled" else BACKENDS[backend]))
    gradients = torch.autograd.grad(loss, list(same.parameters()))
    slope = sum((g * v).sum() for g, v in zip(gradients, directions, strict=True))
    h = 1e-4
    above, below = (loss_at(sign * h, **BACKENDS["stop"])[0] for sign in (1.0, -1.0))
    torch.testing.assert_close(slope, (above - below) / (2 * h), rtol=1e-6, atol=1e-6)


def test_map_and_laplace_learn_from_the_exact_log_likelihood():
    problem = linear_gaussian(mode="learned", gamma=0.5)
    theta = list(problem.model.parameters())
    objective = objective_of(problem.model, problem.x, "laplace")
    solution = minimize(objective, start(problem, "laplace"), gradient=Implicit(), **EXACT_SOLVE)
    torch.testing.assert_close(solution.value.detach(), problem.posterior_mean, **TIGHT)
    q = objective.family.distribution(solution.value, problem.model)
    bound = elbo(problem.model, q, problem.x, exact_noise(5, 3)).elbo
    evidence = log_likelihood(problem.x, *problem.theta)
    torch.testing.assert_close(bound, evidence, **TIGHT)
    actual = torch.autograd.grad(bound.sum(), theta)
    expected = torch.autograd.grad(evidence.sum(), theta)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("backend", ["ift cholesky", "ift cg", "unrolled"])
def test_the_proximal_solution_depends_on_its_start(backend: str):
    problem, rho = linear_gaussian(gamma=0.5), 2.0
    problem.model.requires_grad_(False)
    init = (problem.best_diagonal() + 0.1 * randn(5, 6)).requires_grad_()
    base = objective_of(problem.model, problem.x)
    value = minimize(Proximal(base, init, rho), init, **BACKENDS[backend]).value
    rows = [torch.autograd.grad(value[:, i].sum(), init, retain_graph=True)[0] for i in range(6)]
    by_hessian = proximal_jacobian(base.linearize(value.detach()).hessian(), rho)
    torch.testing.assert_close(torch.stack(rows, dim=1), by_hessian, rtol=1e-6, atol=1e-7)
