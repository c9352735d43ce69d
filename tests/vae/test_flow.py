"""A normalising flow as a posterior, against autograd and the Gaussian that it begins as."""

import math

import pytest
import torch
from closed_forms import log_likelihood
from linear_gaussian import exact_noise, linear_gaussian, randn, vae
from torch import Tensor
from torch.func import jacrev

from savi import minimize
from savi.errors import InputError, SettingError
from savi.evaluation import expected_bound, importance_log_likelihood
from savi.evaluation.bounds import sharp_bound
from savi.evaluation.optimum import local_optimum
from savi.gradients import Checkpointed, Implicit, Unrolled
from savi.inference.negative_elbo import NegativeELBO
from savi.inner.optimizers import LevenbergMarquardt
from savi.vae import POSTERIORS, DiagonalGaussian, elbo
from savi.vae.distributions import stack
from savi.vae.families import FlowFamily
from savi.vae.importance_bound import importance_weighted_bound
from savi.vae.priors import MixturePrior


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flow_family(d: int = 3, moved: float = 0.5) -> FlowFamily:
    """A flow away from the identity, unless it is not moved."""
    family = FlowFamily(d, layers=3, hidden=8).double()
    for weight in family.parameters():
        with torch.no_grad():
            weight.add_(moved * randn(*weight.shape))
    return family


@pytest.mark.parametrize("d", [2, 3])
def test_the_log_determinant_is_that_of_autograd_and_the_inverse_inverts(d):
    flow, u = flow_family(d).flow, randn(4, 5, d)
    z, log_det = flow(u)
    jacobians = torch.stack(
        [jacrev(lambda one: flow(one)[0])(one) for one in u.flatten(0, 1)]
    ).unflatten(0, (4, 5))
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobians).logabsdet)
    assert (log_det.abs() > 1e-2).any()
    back, again = flow.inverse(z)
    torch.testing.assert_close(back, u)
    torch.testing.assert_close(again, log_det)
    assert (jacobians.diagonal(dim1=-2, dim2=-1) != 1.0).any(dim=0).any(dim=0).all()


def test_the_density_is_that_of_the_change_of_variables_and_integrates_to_one():
    family = flow_family(2)
    q = family.distribution(torch.tensor([[0.2, -0.3, -0.5, 0.3]]).double(), vae(2))
    noise = randn(6, 1, 2)
    u = q.base.rsample(noise)
    z, log_det = q.flow(u)
    torch.testing.assert_close(q.rsample(noise), z)
    torch.testing.assert_close(q.log_prob(z), q.base.log_prob(u) - log_det)
    axis = torch.linspace(-14.0, 14.0, 281).double()
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1)
    mass = q.log_prob(grid).exp().sum() * (axis[1] - axis[0]).square()
    assert float(mass.detach()) == pytest.approx(1.0, abs=1e-3)


def test_a_flow_that_is_the_identity_is_a_diagonal_gaussian():
    model, x, lam = vae(), randn(5, 6), 0.5 * randn(5, 6)
    family = FlowFamily(3).double()
    z = randn(2, 5, 3)

    def values(name: str) -> list[Tensor]:
        made = family if name == "flow" else POSTERIORS[name](3)
        objective = NegativeELBO(model, made, x, lambda step: z, beta=0.7)
        q = made.distribution(lam, model)
        bound = elbo(model, q, x, z)
        at = lam.clone().requires_grad_()
        return [
            objective(lam), objective.gradient(lam)[1], objective.exact_curvature(lam), q.mean,
            bound.kl, bound.elbo, q.log_prob(z), q.variance,
            q.kl_to(made.distribution(0 * lam, model)),
            torch.autograd.grad(objective(at).sum(), at)[0],
            made.natural_gradient(lam, at.detach()),
            expected_bound(model, q, x, 10, seeded()).elbo,
        ]  # fmt: skip

    torch.testing.assert_close(values("flow"), values("diagonal_gaussian"))


@pytest.mark.parametrize("mixture", [False, True])
def test_the_kl_is_that_of_its_samples(mixture):
    model, family = vae(), flow_family()
    if mixture:
        model.prior = MixturePrior(3, 6, 2).double()
    lam, noise = 0.5 * randn(5, 6), randn(4000, 5, 3)
    q = family.distribution(lam, model)
    z = q.rsample(noise)
    each = q.log_prob(z) - model.prior.log_prob(z)
    bound = elbo(model, q, randn(5, 6), noise)
    error = 4.5 * each.std(dim=0) / math.sqrt(4000)
    assert ((bound.kl - each.mean(dim=0)).abs() < error).all()
    objective = NegativeELBO(model, family, randn(5, 6), lambda step: noise, beta=0.0)
    full = NegativeELBO(model, family, objective.fit, lambda step: noise, beta=0.7)
    torch.testing.assert_close(full(lam) - objective(lam), 0.7 * bound.kl)


def test_bounds_stay_below_the_exact_evidence_of_an_affine_model():
    problem, family = linear_gaussian(d=2, n=3), flow_family(2, moved=0.2)
    exact = log_likelihood(problem.x, *problem.theta).detach()
    start = torch.zeros(3, 4).double()
    optimum = local_optimum(problem.model, family, problem.x, start, steps=30, generator=seeded())
    assert not optimum.failed.any()
    q = family.distribution(optimum.value, problem.model)
    bound = sharp_bound(problem.model, q, problem.x, 4000, seeded())
    weighted = importance_log_likelihood(problem.model, q, problem.x, 20_000, seeded())
    spread = 1.0 / weighted.effective_samples.sqrt()
    assert (bound < exact + 0.02).all()
    assert ((weighted.log_likelihood - exact).abs() < 4.5 * spread + 1e-3).all()


def test_the_flow_learns_through_the_solve_by_every_backend():
    """With many steps, implicit and unrolled gradients in the weights of the flow are the same."""
    problem, family = linear_gaussian(d=2, dim=3, n=1), flow_family(2, moved=0.2)
    noise = exact_noise(1, 2)
    weights, slopes = list(family.parameters()), []
    for gradient in (Unrolled(), Checkpointed(), Implicit()):
        objective = NegativeELBO(problem.model, family, problem.x, lambda step: noise)
        solution = minimize(
            objective, torch.zeros(1, 4).double(), optimizer=LevenbergMarquardt(),
            gradient=gradient, max_steps=9, rtol=1e-9,
        )  # fmt: skip
        slopes.append(torch.autograd.grad(solution.value.square().sum(), weights))
    assert max(slope.abs().max() for slope in slopes[0]) > 1e-2
    torch.testing.assert_close(slopes[1], slopes[0])
    torch.testing.assert_close(slopes[2], slopes[0], rtol=1e-4, atol=1e-6)


def test_its_doubly_reparameterised_gradient_leaves_the_weights_in_log_q_alone():
    problem, family = linear_gaussian(), flow_family()
    q = family.distribution(0.5 * randn(5, 6), problem.model)
    z = q.rsample(randn(1, 5, 3))
    bound = importance_weighted_bound(
        problem.model, q, problem.x, z, problem.model.decode(z), doubly=True
    )
    weights = list(family.parameters())
    slopes = torch.autograd.grad(bound.importance_weighted.sum(), weights, retain_graph=True)
    at = z.detach().requires_grad_()
    log_weight = problem.model.log_joint(problem.x, at) - q.detach().log_prob(at)
    (by_z,) = torch.autograd.grad(log_weight.sum(), at)
    torch.testing.assert_close(slopes, torch.autograd.grad((by_z * z).sum(), weights))


def test_parts_of_a_batch_and_batches_together():
    family, lam, z = flow_family(), randn(5, 6), randn(2, 5, 3)
    q = family.distribution(lam, vae())
    parts = [q[:2], q[2:]]
    together = stack(parts)
    torch.testing.assert_close(together.log_prob(z), q.log_prob(z))
    torch.testing.assert_close(q[1:3].rsample(z[:, 1:3]), q.rsample(z)[:, 1:3])
    assert isinstance(q.base, DiagonalGaussian)
    alone = q.cpu()
    before = alone.mean.clone()
    with torch.no_grad():
        next(family.parameters()).add_(1.0)
    torch.testing.assert_close(alone.mean, before)
    assert not alone.flow.nets[0][0].weight.requires_grad


def test_sizes_that_make_no_flow_are_refused():
    with pytest.raises(InputError, match=r"model\.latent_dim 1, of which there are no two halves"):
        FlowFamily(1)
    with pytest.raises(SettingError, match="layers is 0: set it to 1 or more"):
        FlowFamily(2, layers=0)
