"""Annealed importance sampling: log p(x) by walks from an initial law to the posterior."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.evaluation.annealing import AnnealedPath, Annealing, Walk
from savi.evaluation.progress import Progress, Ticks, silent
from savi.evaluation.streams import ExampleStreams
from savi.evaluation.whitened import prior_of
from savi.vae.distributions import Posterior
from savi.vae.elbo import example_slices
from savi.vae.model import GaussianVAE


@dataclass(frozen=True)
class AnnealedEstimate:
    """What C annealed chains say of each of B examples.

    Attributes:
        log_weights: log w of every chain, in nats and float64; E w = p(x).
        acceptance: the mean acceptance of an example's moves.
    """

    log_weights: Float[Tensor, "C B"]
    acceptance: Float[Tensor, " B"]

    @classmethod
    def join(cls, walks: Sequence[Walk]) -> Self:
        """Of walks of consecutive pieces of a batch."""
        log_weights, acceptance = zip(*walks, strict=True)
        return cls(torch.cat(log_weights, dim=1), torch.cat(acceptance))

    @property
    def log_likelihood(self) -> Float[Tensor, " B"]:
        """Log (1/C) Σ w, in expectation a lower bound on log p(x)."""
        return self.log_weights.logsumexp(dim=0) - math.log(len(self.log_weights))

    @property
    def effective_samples(self) -> Float[Tensor, " B"]:
        """(Σ w)²/Σ w², between 1 and C."""
        weights = self.log_weights.softmax(dim=0)
        return 1.0 / weights.square().sum(dim=0)

    @property
    def standard_error(self) -> Float[Tensor, " B"]:
        """Of ``log_likelihood``, from the spread of w over the chains.

        To first order that of (1/C) Σ w relative to itself. It knows nothing of modes that no
        chain has found.
        """
        chains = len(self.log_weights)
        weights = chains * self.log_weights.softmax(dim=0)
        return weights.std(dim=0) / math.sqrt(chains)


@torch.no_grad()
def annealed_log_likelihood(
    model: GaussianVAE,
    x: Float[Tensor, "B D"],
    annealing: Annealing,
    generator: torch.Generator,
    initial: Posterior | None = None,
    progress: Progress = silent,
) -> AnnealedEstimate:
    """Log p(x) by annealed importance sampling (Neal 2001; Wu et al. 2017, arXiv 1611.04273).

    From z_0 ~ q0, Hamiltonian Monte Carlo moves that leave p_β(z) ∝ q0(z)^{1−β} p(x, z)^β
    invariant at β_1, …, β_{T−1} give z_1, …, z_{T−1} and the weight

        log w = Σ_{t=1}^T (β_t − β_{t−1}) [log p(x, z_{t−1}) − log q0(z_{t−1})],    E w = p(x),

    whether the chains have reached equilibrium or not. The result for an example depends on its
    place in the batch (the noise), not on what else is in the batch, and the batch is taken in
    pieces of fixed memory. To rounding: an acceptance close to its threshold may go either way.

    Args:
        model: p(x, z).
        x: the observations.
        annealing: the chains and the temperatures.
        generator: the source of the noise.
        initial: q0, a Gaussian with a density; the prior by default. The nearer to the posterior,
            the tighter: see :func:`savi.evaluation.laplace.laplace_at_mode`.
        progress: called after every move.

    Raises:
        InputError: for an ``initial`` without a density or for another number of examples.
    """
    paths = annealed_paths(model, x, annealing, generator, initial, walks=1, progress=progress)
    return AnnealedEstimate.join([path.forward() for _, path in paths])


def annealed_paths(
    model: GaussianVAE,
    x: Float[Tensor, "B D"],
    annealing: Annealing,
    generator: torch.Generator,
    initial: Posterior | None,
    *,
    walks: int,
    progress: Progress,
) -> Iterator[tuple[slice, AnnealedPath]]:
    """The paths of pieces of a batch, whose chains decode to no more than a chunk.

    Args:
        model: p(x, z).
        x: the observations.
        annealing: the chains and the temperatures.
        generator: the source of the noise.
        initial: q0; the prior by default.
        walks: how many walks there will be along each path.
        progress: called after every move.
    """
    q0 = prior_of(model, x) if initial is None else initial
    if len(q0.mean) != len(x):
        raise InputError(
            f"initial has {len(q0.mean)} examples and x has {len(x)}: give one posterior for each"
        )
    streams = ExampleStreams.spawn(len(x), generator, q0.mean)
    parts = list(example_slices(len(x), annealing.chains * x.shape[1]))
    tick = Ticks(progress, len(parts) * annealing.moves(walks))
    for part in parts:
        yield part, AnnealedPath(model, x[part], q0[part], annealing, streams[part], tick)
