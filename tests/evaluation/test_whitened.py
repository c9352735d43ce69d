"""log p(x, z)/q0(z) in the coordinates of q0."""

import pytest
import torch
from closed_forms import log_likelihood
from linear_gaussian import linear_gaussian, randn, vae
from torch import nn

from savi.errors import InputError
from savi.evaluation.hmc import WhitenedWeight
from savi.evaluation.proposals import standard_normal
from savi.vae import DiagonalGaussian, FullGaussian, PointMass, Posterior


def posteriors(n: int, d: int) -> list[Posterior]:
    lower = torch.eye(d).double() + 0.3 * randn(n, d, d).tril()
    return [DiagonalGaussian(randn(n, d), randn(n, d)), FullGaussian(randn(n, d), lower)]


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("kind", [0, 1])
def test_the_weight_and_its_gradient_against_autograd(head: bool, kind: int):
    torch.manual_seed(0)
    model, x = vae(dim=40 if head else 6, mode="per_pixel"), randn(5, 40 if head else 6)
    q0 = posteriors(5, 3)[kind]
    u = randn(4, 5, 3).requires_grad_()
    z = q0.rsample(u)
    expected = model.log_joint(x, z) - q0.log_prob(z)
    (slope,) = torch.autograd.grad(expected.sum(), u)
    with torch.no_grad():
        point = WhitenedWeight(model, x, q0, codes=10**6 if head else 1)(u)
    torch.testing.assert_close(point.log_weight, expected.detach())
    torch.testing.assert_close(point.score, slope)


def test_a_decoder_without_closed_derivatives():
    torch.manual_seed(0)
    model, x = vae(), randn(5, 6)
    q0, u = posteriors(5, 3)[1], randn(4, 5, 3)
    expected = WhitenedWeight(model, x, q0, codes=1)(u)
    model.decoder.register_forward_hook(lambda module, arguments, output: output)
    opaque = WhitenedWeight(model, x, q0, codes=1)
    assert opaque._fit.chain is None
    torch.testing.assert_close(opaque(u), expected)
    with torch.inference_mode():
        torch.testing.assert_close(opaque(u.clone()), expected)


def test_at_the_exact_posterior_the_weight_is_the_likelihood():
    problem = linear_gaussian()
    scale_tril = torch.linalg.cholesky(torch.linalg.inv(problem.precision))
    q0 = FullGaussian(problem.posterior_mean, scale_tril.expand(5, -1, -1))
    with torch.no_grad():
        point = WhitenedWeight(problem.model, problem.x, q0, codes=10**6)(randn(4, 5, 3))
    exact = log_likelihood(problem.x, *problem.theta).detach()
    torch.testing.assert_close(point.log_weight, exact.expand(4, -1))
    torch.testing.assert_close(point.score, torch.zeros_like(point.score), rtol=0, atol=1e-10)


@torch.no_grad()
def test_from_codes_to_noise_and_back():
    model, x = vae(), randn(5, 6)
    for q0 in (*posteriors(5, 3), standard_normal(model, x)):
        u = randn(5, 3)
        z = q0.rsample(u.unsqueeze(0))[0]
        torch.testing.assert_close(WhitenedWeight(model, x, q0, codes=1).noise_of(z), u)


@torch.no_grad()
def test_a_weight_that_is_no_number_counts_as_nothing():
    class Hole(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return torch.where(z[..., :1] > 0, torch.nan, z.repeat(1, 1, 2))

    model = vae()
    model.decoder = Hole()
    q0 = standard_normal(model, randn(5, 6))
    point = WhitenedWeight(model, randn(5, 6), q0, 1)(randn(20, 5, 3))
    lost = point.u[..., 0] > 0
    assert (point.log_weight[lost] == -torch.inf).all()
    assert point.log_weight[~lost].isfinite().all()


def test_a_point_has_no_density_to_start_from():
    with pytest.raises(InputError, match="no density"):
        WhitenedWeight(vae(), randn(5, 6), PointMass(randn(5, 3)), codes=1)
