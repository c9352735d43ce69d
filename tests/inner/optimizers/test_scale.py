"""The optimisers that judge their steps, on a VAE's bound whose γ changes by 100 and by 10,000."""

import itertools

import pytest
import torch
from linear_gaussian import randn, vae

import savi
from savi.gradients import StopGradient
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import LBFGS, NaturalGradient, Newton
from savi.vae import POSTERIORS
from savi.vae.distributions import common_noise

#: The steps that each may need to come down to a hundredth of the slope at the start.
OPTIMIZERS = {
    "newton": (Newton(), 60),
    "lbfgs": (LBFGS(), 150),
    "natural_gradient": (NaturalGradient(), 200),
}


def bound(name, gamma, dtype=torch.float64, batch=8):
    """Of a curved decoder, at the prior."""
    torch.manual_seed(3)
    model = vae(d=3, dim=20, gamma=gamma).to(dtype)
    with torch.no_grad():
        z = randn(batch, 3).to(dtype)
        x = model.decode(z) + gamma**0.5 * randn(batch, 20).to(dtype)
    family = POSTERIORS[name](3)
    noise = common_noise(16, torch.zeros(batch, 3, dtype=dtype), torch.Generator().manual_seed(0))
    init = torch.zeros(batch, family.num_params, dtype=dtype)
    return NegativeELBO(model, family, x, noise), init


def solve(objective, init, optimizer, **options):
    return savi.minimize(objective, init, optimizer=optimizer, gradient=StopGradient(), **options)


@pytest.mark.drawn
@pytest.mark.parametrize("posterior", ["diagonal_gaussian", "full_gaussian"])
@pytest.mark.parametrize("gamma", [1.0, 0.01, 1e-4])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_another_gamma_needs_no_tuning(optimizer, gamma, posterior):
    objective, init = bound(posterior, gamma)
    rule, steps = OPTIMIZERS[optimizer]
    solution = solve(objective, init, rule, max_steps=steps, rtol=1e-2)
    assert (solution.status == savi.Status.CONVERGED).double().mean() >= 0.75
    assert (solution.objective < objective.value(init)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_bound_never_falls(optimizer, dtype):
    objective, init = bound("diagonal_gaussian", 0.01, dtype)
    rule, _ = OPTIMIZERS[optimizer]
    values = [
        solve(objective, init, rule, max_steps=k, rtol=0.0).objective
        for k in (0, 1, 2, 3, 5, 8, 13)
    ]
    rounding = 20.0 * torch.finfo(dtype).eps * values[0].abs()
    for before, after in itertools.pairwise(values):
        assert (after <= before + rounding).all()
    assert (values[-1] < values[0]).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_dropping_converged_examples_changes_nothing(optimizer):
    """With their part of the state; half of the batch starts at its solution."""
    objective, init = bound("diagonal_gaussian", 0.1)
    rule, _ = OPTIMIZERS[optimizer]
    near = solve(objective, init, rule, max_steps=200, rtol=1e-8).value
    init[:6] = near[:6]
    together = solve(objective, init, rule, max_steps=30, rtol=0.0, atol=1e-3)
    rows = torch.arange(6, 8)
    alone = solve(objective.rows(rows), init[rows], rule, max_steps=30, rtol=0.0, atol=1e-3)
    assert (together.steps[:6] < together.steps[6:].min()).all()
    torch.testing.assert_close(together.value[rows], alone.value)
    # A smaller batch may be rounded otherwise, and its stopping rule be met a step apart.
    assert ((together.steps[rows] - alone.steps).abs() <= 1).all()
