"""The closed derivatives of an inner problem against autograd's, for any likelihood."""

import torch

from savi.inference.negative_elbo import NegativeELBO
from savi.vae import POSTERIORS
from savi.vae.distributions import common_noise


def require_closed_derivatives(model, x, family):
    """∇J and ∇²J of the negative ELBO at a λ near 0."""
    posterior = POSTERIORS[family](2)
    noise = common_noise(4, x.new_zeros(len(x), 2), torch.Generator().manual_seed(0))
    objective = NegativeELBO(model, posterior, x, noise)
    y = (0.3 * torch.randn(len(x), posterior.num_params, dtype=x.dtype)).requires_grad_()
    (slope,) = torch.autograd.grad(objective(y).sum(), y)
    torch.testing.assert_close(objective.gradient(y.detach())[1], slope)
    closed = objective.exact_curvature(y.detach())
    torch.testing.assert_close(closed, objective.exact_curvature(y, create_graph=True).detach())
