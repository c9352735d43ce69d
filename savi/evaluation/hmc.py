"""Hamiltonian Monte Carlo on a standard normal law that is tilted by an importance weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from savi.evaluation.pieces import ExampleStreams
from savi.inner.precision import OrdinaryTensors
from savi.types import Codes, Observations, PerExample, PerSample, Samples
from savi.vae.data_fit import data_fit
from savi.vae.distributions import Posterior
from savi.vae.model import VAE
from savi.vae.tilted_fit import tilted

#: The step size of a move is drawn within this fraction of its nominal value: a fixed one can
#: lead a trajectory round in a circle, back to where it began (Neal 2011, section 3.2).
JITTER = 0.2


class Point(NamedTuple):
    """Positions of C chains for each of B examples, under p_β(u) ∝ N(u; 0, I) w(u)^β.

    What depends on u alone is kept apart from β: a change of β costs no evaluation.

    Attributes:
        u: the positions.
        log_weight: log w(u).
        score: ∇ log w(u).
    """

    u: Samples
    log_weight: PerSample
    score: Samples

    def log_density(self, beta: float) -> PerSample:
        """β log w(u) − ½‖u‖², which is log p_β(u) up to a constant."""
        return beta * self.log_weight - 0.5 * self.u.square().sum(dim=-1)

    def gradient(self, beta: float) -> Samples:
        """β ∇ log w(u) − u."""
        return beta * self.score - self.u


#: u ↦ the point there, with one evaluation of log w and its gradient.
Evaluate = Callable[[Tensor], Point]


def leapfrog(
    evaluate: Evaluate, point: Point, momentum: Samples, beta: float, step_size: Tensor, steps: int
) -> tuple[Point, Samples]:
    """L leapfrog steps of du/dt = ρ, dρ/dt = ∇ log p_β(u): L evaluations.

        ρ ← ρ + ½ε ∇ log p_β(u),    u ← u + ε ρ,    ρ ← ρ + ½ε ∇ log p_β(u)

    The map preserves volume, and after a change of sign of ρ it leads back to where it began.
    """
    epsilon = step_size.unsqueeze(-1)
    momentum = momentum + 0.5 * epsilon * point.gradient(beta)
    for step in range(1, steps + 1):
        point = evaluate(point.u + epsilon * momentum)
        # The half steps of ρ that meet between two steps of u are one.
        half = 0.5 if step == steps else 1.0
        momentum = momentum + half * epsilon * point.gradient(beta)
    return point, momentum


def transition(
    evaluate: Evaluate,
    point: Point,
    beta: float,
    step_size: PerExample,
    steps: int,
    streams: ExampleStreams,
) -> tuple[Point, PerSample]:
    """One move of every chain, which leaves p_β invariant and is reversible under it.

    A momentum ρ ~ N(0, I) is drawn, the Hamiltonian H(u, ρ) = −log p_β(u) + ½‖ρ‖² is followed for
    ``steps`` leapfrog steps, and the end is accepted with probability min(1, exp(H − H')) (Duane
    et al. 1987; Neal 2011, arXiv 1206.1901). An end whose H' is not finite is rejected. Each chain
    draws its own ε within :data:`JITTER` of the step size of its example, without a look at u, so
    that the move stays reversible.

    Returns:
        The new points, and the probabilities with which the moves were accepted.
    """
    chains, _, d = point.u.shape
    momentum = streams.normal(chains, d)
    epsilon = step_size * (1.0 + JITTER * (2.0 * streams.uniform(chains) - 1.0))
    end, end_momentum = leapfrog(evaluate, point, momentum, beta, epsilon, steps)
    log_ratio = (end.log_density(beta) - 0.5 * end_momentum.square().sum(dim=-1)) - (
        point.log_density(beta) - 0.5 * momentum.square().sum(dim=-1)
    )
    # NaN where the end, or both ends, are not finite.
    probability = log_ratio.clamp_max(0.0).exp().nan_to_num(0.0)
    accepted = streams.uniform(chains) < probability
    rows = accepted.unsqueeze(-1)
    moved = Point(
        torch.where(rows, end.u, point.u),
        torch.where(accepted, end.log_weight, point.log_weight),
        torch.where(rows, end.score, point.score),
    )
    return moved, probability


class WhitenedWeight:
    """u ↦ log w(u) = log p(x, z) − log q0(z) at z = m + T u, for q0 = N(m, TTᵀ).

    In these coordinates q0 is N(0, I), and the posterior is N(0, I) too if q0 is the posterior:
    the closer q0 is, the better one step size fits every direction. Where log p(x|z) has closed
    derivatives (:class:`savi.vae.data_fit.DataFit`), no autograd is needed; ``codes`` is how many
    evaluations are to be expected, of all examples together.

    Raises:
        InputError: for a q0 without a density.
    """

    def __init__(self, model: VAE, x: Observations, q0: Posterior, codes: int) -> None:
        self.mean, d = q0.mean, model.latent_dim
        # Samples are affine in their noise: the columns of T are the images of one-hot noise.
        one_hots = torch.eye(d, dtype=x.dtype, device=x.device)[:, None].expand(-1, len(x), -1)
        self._height = q0.log_prob(self.mean.unsqueeze(0))[0] + 0.5 * d * math.log(2.0 * math.pi)
        self._rows = (q0.rsample(one_hots) - self.mean).transpose(0, 1)  # Tᵀ, [B, d, d]
        self._fit = tilted(data_fit(model, x, self.mean, codes=codes))

    def __call__(self, u: Samples) -> Point:
        """The value of log w, and Tᵀ∇_z log p(x, z) + u; a weight that is no number counts as 0."""
        z = self.mean + torch.einsum("bij,cbi->cbj", self._rows, u)
        # With another prior than N(0, I) they have the rest of log p(z).
        log_likelihood, score = self._log_likelihood(z)
        log_weight = log_likelihood + 0.5 * (u.square() - z.square()).sum(dim=-1) - self._height
        return Point(
            u,
            log_weight.where(~log_weight.isnan(), -torch.inf),
            torch.einsum("bij,cbj->cbi", self._rows, score - z) + u,
        )

    def noise_of(self, z: Codes) -> Codes:
        """The u = T⁻¹(z − m) of codes."""
        return torch.linalg.solve(self._rows.mT, z - self.mean)

    def _log_likelihood(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The values of log p(x|z), and ∇_z log p(x|z)."""
        if self._fit.first is not None:
            with torch.no_grad():
                return self._fit.gradient(z)
        with torch.inference_mode(False), torch.enable_grad(), OrdinaryTensors():
            z = z.detach().clone().requires_grad_()
            log_likelihood = self._fit(z)
            (score,) = torch.autograd.grad(log_likelihood.sum(), z)
        return log_likelihood.detach(), score
