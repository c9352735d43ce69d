"""All mass at one code, found by MAP inference."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.types import Blocks, Rows, Samples
from savi.vae.distributions import PointMass
from savi.vae.families.base import POSTERIORS
from savi.vae.families.closed_form import ClosedFormFamily
from savi.vae.model import VAE, KLWeight


class MapFamily(ClosedFormFamily):
    """λ = z, P = d."""

    is_map = True

    @property
    def num_params(self) -> int:
        """The latent dimension d."""
        return self.latent_dim

    def samples(self, lam: Rows, noise: Samples) -> Samples:
        """λ itself, whatever the noise."""
        return lam.unsqueeze(0)

    def push_forward(self, lam: Rows, noise: Samples, v: Rows) -> Samples:
        """That of the one sample: z = λ."""
        return v.unsqueeze(0)

    def pull_back_curvature(
        self, lam: Rows, noise: Samples, matrix: Float[Tensor, "#S B d d"]
    ) -> Blocks:
        """The one sample's."""
        return matrix[0]

    def pull_back(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """The one sample's: z = λ."""
        return c.mean(dim=0)

    def kl_gradient(self, lam: Rows) -> Rows:
        """λ."""
        return lam

    def kl_curvature(self, lam: Rows) -> Rows:
        """1: −log p(z) = ½‖z‖² + const."""
        return torch.ones_like(lam)

    def natural_gradient(self, lam: Rows, gradient: Rows) -> Rows:
        """Refused: λ is a point, not a distribution.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"posterior '{self.name}' has no Fisher matrix: take 'diagonal_gaussian' or "
            "'full_gaussian'"
        )


@POSTERIORS.register("point_mass")
class PointMassFamily(MapFamily):
    """All mass at z = λ."""

    name = "point_mass"
    has_density = False

    def distribution(self, lam: Rows, model: VAE, beta: KLWeight = 1.0) -> PointMass:
        """The point mass at λ."""
        return PointMass(lam)
