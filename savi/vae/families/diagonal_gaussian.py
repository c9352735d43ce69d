"""A mean and a variance for each dimension."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from savi.types import Blocks, Codes, PerExample, Rows, Samples
from savi.vae.distributions import DiagonalGaussian
from savi.vae.families.base import POSTERIORS
from savi.vae.families.closed_form import ClosedFormFamily
from savi.vae.model import VAE, KLWeight


@POSTERIORS.register("diagonal_gaussian")
class DiagonalGaussianFamily(ClosedFormFamily):
    """λ = (mean, log variance), P = 2d; s is the standard deviation."""

    name = "diagonal_gaussian"

    @property
    def num_params(self) -> int:
        """2d."""
        return 2 * self.latent_dim

    def distribution(self, lam: Rows, model: VAE, beta: KLWeight = 1.0) -> DiagonalGaussian:
        """N(mean, diag exp(log variance))."""
        return DiagonalGaussian(*lam.chunk(2, dim=-1))

    def _scale(self, lam: Rows) -> Codes:
        return (0.5 * lam[:, self.latent_dim :]).exp()

    def push_forward(self, lam: Rows, noise: Samples, v: Rows) -> Samples:
        """The mean's part of v, and ½ s ∘ ε times the other."""
        by_mean, by_log_variance = v.chunk(2, dim=-1)
        return torch.addcmul(by_mean, 0.5 * self._scale(lam) * by_log_variance, noise)

    def pull_back(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """The means of c and of ½ s ∘ ε ∘ c."""
        return torch.cat([c.mean(dim=0), 0.5 * self._scale(lam) * (c * noise).mean(dim=0)], dim=-1)

    def pull_back_curvature(
        self, lam: Rows, noise: Samples, matrix: Float[Tensor, "#S B d d"]
    ) -> Blocks:
        """The blocks M, M diag(a) and diag(a) M diag(a), averaged, with a = ½ s ∘ ε."""
        a = 0.5 * self._scale(lam) * noise
        scaled = matrix * a.unsqueeze(-2)
        mixed = scaled.mean(dim=0)
        upper = torch.cat([matrix.mean(dim=0), mixed], dim=-1)
        lower = torch.cat([mixed.mT, (scaled * a.unsqueeze(-1)).mean(dim=0)], dim=-1)
        return torch.cat([upper, lower], dim=-2)

    def bending(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """0, and the mean of ¼ s ∘ ε ∘ c."""
        by_log_variance = 0.25 * self._scale(lam) * (noise * c).mean(dim=0)
        return torch.cat([torch.zeros_like(by_log_variance), by_log_variance], dim=-1)

    def kl_gradient(self, lam: Rows) -> Rows:
        """The mean, and ½(s² − 1)."""
        mean, log_variance = lam.chunk(2, dim=-1)
        return torch.cat([mean, 0.5 * log_variance.expm1()], dim=-1)

    def kl_curvature(self, lam: Rows) -> Rows:
        """1 for the mean, ½s² for the log variance."""
        mean, log_variance = lam.chunk(2, dim=-1)
        return torch.cat([torch.ones_like(mean), 0.5 * log_variance.exp()], dim=-1)

    def natural_gradient(self, lam: Rows, gradient: Rows) -> Rows:
        """F = diag(1/s², ½)."""
        _, log_variance = lam.chunk(2, dim=-1)
        by_mean, by_log_variance = gradient.chunk(2, dim=-1)
        return torch.cat([log_variance.exp() * by_mean, 2.0 * by_log_variance], dim=-1)

    def natural_step(self, lam: Rows, gradient: Rows, length: PerExample) -> Rows:
        """1/s'² = (1 + x + ½x²)/s², x = 2 α g_log_variance; mean − δ/√(1 + δ²), δ = α s'² g_mean.

        With x alone the precisions would take a step in natural parameters; ½x² keeps them positive
        (Lin, Schmidt and Khan 2020), where x is at least −1, so that no variance more than doubles.
        Variances that have learned of a curvature before the mean moves (Khan et al. 2018) do not
        let it overshoot, and no coordinate moves further than the prior's standard deviation.
        """
        mean, log_variance = lam.chunk(2, dim=-1)
        by_mean, by_log_variance = gradient.chunk(2, dim=-1)
        length = length.unsqueeze(-1)
        x = (2.0 * length * by_log_variance).clamp_min(-1.0)
        log_variance = log_variance - torch.log1p(x + 0.5 * x.square())
        delta = length * log_variance.exp() * by_mean
        mean = mean - delta / torch.hypot(delta, torch.ones_like(delta))
        return torch.cat([mean, log_variance], dim=-1)
