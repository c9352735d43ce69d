"""Every covariance, by its Cholesky factor."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from savi.types import Codes, Rows, Samples
from savi.vae.distributions import FullGaussian
from savi.vae.families.base import POSTERIORS
from savi.vae.families.closed_form import ClosedFormFamily, Jacobians
from savi.vae.model import VAE, KLWeight


@POSTERIORS.register("full_gaussian")
class FullGaussianFamily(ClosedFormFamily):
    """λ = (mean, log diag L, strictly lower triangle of L by rows), P = 2d + d(d−1)/2."""

    name = "full_gaussian"

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self._rows, self._columns = torch.tril_indices(latent_dim, latent_dim, offset=-1)

    @property
    def num_params(self) -> int:
        """2d + d(d−1)/2."""
        return 2 * self.latent_dim + len(self._rows)

    def _split(self, lam: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        d = self.latent_dim
        return lam[:, :d], lam[:, d : 2 * d], lam[:, 2 * d :]

    def distribution(self, lam: Rows, model: VAE, beta: KLWeight = 1.0) -> FullGaussian:
        """N(mean, L Lᵀ)."""
        mean, log_diagonal, lower = self._split(lam)
        return FullGaussian(mean, self._triangle(log_diagonal.exp(), lower))

    def _triangle(self, diagonal: Codes, lower: Float[Tensor, "B T"]) -> Float[Tensor, "B d d"]:
        """The lower triangular matrix of its entries."""
        matrix, device = torch.diag_embed(diagonal), lower.device
        examples = torch.arange(len(lower), device=device)[:, None]
        index = (examples, self._rows.to(device), self._columns.to(device))
        return matrix + torch.zeros_like(matrix).index_put(index, lower)

    def _below(self, matrix: Float[Tensor, "B d d"]) -> Float[Tensor, "B T"]:
        """The entries of the strictly lower triangle, by rows."""
        return matrix[:, self._rows.to(matrix.device), self._columns.to(matrix.device)]

    def sample_jacobian(self, lam: Rows, noise: Samples) -> Jacobians:
        """∂z_i/∂mean_i = 1, ∂z_i/∂log L_ii = L_ii ε_i, ∂z_i/∂L_ij = ε_j."""
        _, log_diagonal, lower = self._split(lam)
        by_diagonal = torch.diag_embed(log_diagonal.exp() * noise)
        identity = torch.eye(self.latent_dim, dtype=lam.dtype, device=lam.device)
        by_lower = noise.new_zeros(*noise.shape, lower.shape[-1])
        entries = torch.arange(lower.shape[-1])
        by_lower[..., self._rows, entries] = noise[..., self._columns]
        return torch.cat([identity.expand_as(by_diagonal), by_diagonal, by_lower], dim=-1)

    def pull_back(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """The means of c, and of the entries of c εᵀ with those of log L_ii times L_ii."""
        _, log_diagonal, _ = self._split(lam)
        outer = torch.einsum("sbi,sbj->bij", c, noise) / len(noise)
        diagonal = log_diagonal.exp() * outer.diagonal(dim1=-2, dim2=-1)
        return torch.cat([c.mean(dim=0), diagonal, self._below(outer)], dim=-1)

    def bending(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """The mean of L_ii ε_i c_i for log L_ii; z is linear in all else."""
        mean, log_diagonal, lower = self._split(lam)
        by_diagonal = log_diagonal.exp() * (noise * c).mean(dim=0)
        return torch.cat([torch.zeros_like(mean), by_diagonal, torch.zeros_like(lower)], dim=-1)

    def kl_gradient(self, lam: Rows) -> Rows:
        """The mean, L_ii² − 1 for log L_ii, and the lower triangle."""
        mean, log_diagonal, lower = self._split(lam)
        return torch.cat([mean, (2.0 * log_diagonal).expm1(), lower], dim=-1)

    def kl_curvature(self, lam: Rows) -> Rows:
        """1 for the mean and the lower triangle, 2 L_ii² for log L_ii."""
        mean, log_diagonal, lower = self._split(lam)
        by_diagonal = 2.0 * (2.0 * log_diagonal).exp()
        return torch.cat([torch.ones_like(mean), by_diagonal, torch.ones_like(lower)], dim=-1)

    def natural_gradient(self, lam: Rows, gradient: Rows) -> Rows:
        """Σ g in the mean; dL = L M in the factor, M = tril(LᵀG) with its diagonal halved.

        A change dL = L M moves q by dKL = Σ_i M_ii² + ½ Σ_{i>j} M_ij², whose matrix is diagonal:
        2 on the diagonal of M and 1 below it. G is the gradient in L, LᵀG that in M.
        """
        _, log_diagonal, lower = self._split(lam)
        by_mean, by_log_diagonal, by_lower = self._split(gradient)
        scale_tril = self._triangle(log_diagonal.exp(), lower)
        by_factor = self._triangle(by_log_diagonal * (-log_diagonal).exp(), by_lower)
        by_move = (scale_tril.mT @ by_factor).tril()
        diagonal = 0.5 * by_move.diagonal(dim1=-2, dim2=-1)
        below = self._below(scale_tril @ (by_move - torch.diag_embed(diagonal)))
        mean = (scale_tril @ (scale_tril.mT @ by_mean.unsqueeze(-1))).squeeze(-1)
        return torch.cat([mean, diagonal, below], dim=-1)
