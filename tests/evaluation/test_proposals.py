"""The Laplace approximation at a mode, from the model alone."""

import pytest
import torch
from linear_gaussian import linear_gaussian, randn, vae

from savi.evaluation.proposals import laplace_at_mode


@pytest.mark.parametrize("gamma", [0.25, 1e-3])
def test_the_posterior_of_an_affine_model(gamma: float):
    problem = linear_gaussian(gamma=gamma)
    q = laplace_at_mode(problem.model, problem.x, torch.zeros(5, 3).double())
    error = q.mean - problem.posterior_mean
    assert torch.einsum("bi,ij,bj->b", error, problem.precision, error).max() < 1e-4
    covariance = torch.linalg.inv(problem.precision).expand(5, -1, -1)
    torch.testing.assert_close(q.scale_tril @ q.scale_tril.mT, covariance)
    assert not q.mean.requires_grad


def test_a_mode_of_a_curved_model():
    torch.manual_seed(0)
    model, x, start = vae(gamma=0.05), randn(6, 6), randn(6, 3)
    q = laplace_at_mode(model, x, start)
    z = q.mean.clone().requires_grad_()
    log_joint = model.log_joint(x, z.unsqueeze(0))[0]
    (gradient,) = torch.autograd.grad(log_joint.sum(), z)
    assert gradient.norm(dim=-1).max() < 1e-2
    assert (log_joint > model.log_joint(x, start.unsqueeze(0))[0]).all()
    torch.testing.assert_close(
        torch.linalg.inv(q.scale_tril @ q.scale_tril.mT), model.precision(q.mean).detach()
    )
