"""A trained decoder and a batch: an inner and an outer problem that need nothing else."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from savi.errors import InputError
from savi.inference.negative_elbo import NegativeELBO
from savi.types import Codes, Observations, Scalar
from savi.vae.data_fit import data_fit
from savi.vae.families import PointMassFamily
from savi.vae.model import GaussianVAE
from savi.vae.variance import FixedVariance

DATA = ("x", "start", "scale", "noise")


@dataclass(frozen=True)
class TrainedBatch:
    """A trained decoder θ, unseen images, and what the trained encoder makes of them.

    The inner problem is MAP inference, J_b(z) = −log p(x_b|z) + ½‖z‖², started at m. The outer
    loss decodes at z* + s ∘ ε with a fixed ε, so that dz*/dθ carries a signal that the envelope
    theorem does not cancel.
    """

    model: GaussianVAE  # the decoder, with γ fixed at its trained value
    x: Observations  # the images
    start: Codes  # m, the encoder's mean, where the inner solves begin
    scale: Codes  # s, the encoder's standard deviation
    noise: Codes  # ε

    def objective(self, max_steps: int = 0) -> NegativeELBO:
        """J, made anew as in every training step.

        Args:
            max_steps: how many evaluations are to be expected: with enough of them J is evaluated
                below the decoder's affine head (see :func:`savi.vae.data_fit.data_fit`).
        """
        family = PointMassFamily(self.model.latent_dim)
        fit = data_fit(self.model, self.x, self.start, codes=len(self.x) * max_steps)
        return NegativeELBO(self.model, family, fit, lambda step: self.noise.unsqueeze(0))

    def outer(self, z: Codes) -> Scalar:
        """L = (1/B) Σ_b [−log p(x_b | z_b + s_b ∘ ε_b) + ½‖z_b‖²]."""
        sample = torch.addcmul(z, self.scale, self.noise).unsqueeze(0)
        log_likelihood, _ = self.model.likelihood(self.x, self.model.decode(sample))
        return (0.5 * z.square().sum(dim=-1) - log_likelihood[0]).mean()

    @property
    def weights(self) -> list[Tensor]:
        """The decoder's parameters: what the outer loss is differentiated in."""
        return list(self.model.decoder.parameters())

    @property
    def given(self) -> list[Tensor]:
        """Every tensor that is there before the solve."""
        data = (getattr(self, name) for name in DATA)
        return [*self.model.parameters(), *self.model.buffers(), *data]

    def rows(self, n: int) -> TrainedBatch:
        """The first n examples."""
        if not 1 <= n <= len(self.x):
            raise InputError(f"{n} examples of a batch of {len(self.x)}: set batch to {n} or more")
        return replace(self, **{name: getattr(self, name)[:n] for name in DATA})

    def to(self, target: torch.dtype | torch.device) -> TrainedBatch:
        """A copy, the weights too, in another float type or on another device."""
        data = {name: getattr(self, name).to(target) for name in DATA}
        return replace(self, model=copy.deepcopy(self.model).to(target), **data)

    def with_gamma(self, factor: float) -> TrainedBatch:
        """The same with γ multiplied by ``factor``, and decoder weights that are shared."""
        return replace(self, model=with_fixed_gamma(self.model, factor))


def with_fixed_gamma(model: GaussianVAE, factor: float) -> GaussianVAE:
    """The same decoder with a γ that nothing moves, whatever kind it was."""
    gamma = model.gamma().detach()
    fixed = FixedVariance(model.gamma.dim, 1.0)
    fixed.gamma = factor * gamma
    return GaussianVAE(model.decoder, fixed, model.latent_dim)
