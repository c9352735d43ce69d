"""Small models in float64 for tests: an affine one, for which all is known, and a curved one."""

from dataclasses import dataclass

import torch
from closed_forms import best_diagonal_variances, posterior_mean, posterior_precision
from torch import Tensor, nn

from savi.inference.negative_elbo import NegativeELBO
from savi.vae import DECODERS, POSTERIORS, VARIANCES, GaussianVAE


@dataclass
class LinearGaussian:
    """x ~ N(Wz + b, γI) as a model, with examples drawn from it."""

    model: GaussianVAE
    x: Tensor

    @property
    def theta(self) -> tuple[Tensor, Tensor, Tensor]:
        """W, b and γ; a γ per pixel starts with one value for all."""
        head = self.model.decoder.head
        return head.weight, head.bias, self.model.gamma()[0]

    @property
    @torch.no_grad()
    def precision(self) -> Tensor:
        w, _, gamma = self.theta
        return posterior_precision(w, gamma)

    @property
    @torch.no_grad()
    def posterior_mean(self) -> Tensor:
        return posterior_mean(self.x, *self.theta)

    @torch.no_grad()
    def best_diagonal(self) -> Tensor:
        w, _, gamma = self.theta
        log_variance = best_diagonal_variances(w, gamma).log()
        return torch.cat([self.posterior_mean, log_variance.expand_as(self.posterior_mean)], dim=1)

    @torch.no_grad()
    def best_full(self) -> Tensor:
        scale_tril = torch.linalg.cholesky(torch.linalg.inv(self.precision))
        d = self.model.latent_dim
        rows, columns = torch.tril_indices(d, d, offset=-1)
        shared = torch.cat([scale_tril.diagonal().log(), scale_tril[rows, columns]])
        return torch.cat([self.posterior_mean, shared.expand(len(self.x), -1)], dim=1)


def linear_gaussian(
    d: int = 3, dim: int = 6, n: int = 5, gamma: float = 0.25, mode: str = "fixed", seed: int = 0
) -> LinearGaussian:
    torch.manual_seed(seed)
    model = vae(d, dim, gamma, mode, depth=0)
    with torch.no_grad():
        z = randn(n, d)
        x = model.decode(z) + model.gamma().sqrt() * randn(n, dim)
    model.decoder_evaluations = 0
    return LinearGaussian(model, x)


def vae(
    d: int = 3, dim: int = 6, gamma: float = 0.25, mode: str = "fixed", depth: int = 1
) -> GaussianVAE:
    decoder = DECODERS["mlp"](d, (dim,), hidden=8, depth=depth, activation="tanh")
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.7)
    return GaussianVAE(decoder, VARIANCES[mode](dim, gamma), d).double()


def exact_noise(n: int, d: int) -> Tensor:
    """±√d e_i for every example: with mean 0 and covariance I exactly, S = 2d."""
    half = d**0.5 * torch.eye(d, dtype=torch.float64)
    return torch.cat([half, -half])[:, None, :].expand(-1, n, -1)


def randn(*size: int) -> Tensor:
    return torch.randn(*size, dtype=torch.float64)


def objective_of(
    model: GaussianVAE, x: Tensor, name: str = "diagonal_gaussian", beta: float = 1.0
) -> NegativeELBO:
    noise = exact_noise(len(x), model.latent_dim)
    family = POSTERIORS[name](model.latent_dim)
    return NegativeELBO(model, family, x, lambda step: noise, beta=beta)


def start(problem: LinearGaussian, name: str = "diagonal_gaussian") -> Tensor:
    return 0.5 * randn(len(problem.x), POSTERIORS[name](problem.model.latent_dim).num_params)
