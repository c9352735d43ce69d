"""The path from an initial law to the posterior, and walks along it in either direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from savi.evaluation.hmc import Point, WhitenedWeight, transition
from savi.evaluation.pieces import ExampleStreams
from savi.settings import Checked, setting
from savi.types import Codes, Observations, PerExample, PerSample, Samples
from savi.vae.distributions import Posterior
from savi.vae.model import VAE

#: Of the moves; near the optimum 0.651 in many dimensions (Beskos et al. 2013, arXiv 1001.4460).
TARGET_ACCEPTANCE = 0.65
#: The pilot walk: its share of the increments and the least number of them, and the step size
#: that it begins with and how fast its logarithm follows the acceptance. From a small one: after
#: steps that are too large, chains stand still while the law goes on narrowing.
PILOT_SHARE, PILOT_LEAST, PILOT_STEP_SIZE, PILOT_RATE = 0.2, 20, 0.25, 1.0


@dataclass(frozen=True)
class Annealing(Checked):
    """How the path p_β(z) ∝ q0(z)^{1−β} p(x, z)^β = q0(z) w(z)^β is walked.

    Args:
        chains: C, the independent walks of each example, 2 or more: their spread is the error.
        steps: T, the increments of β from 0 to 1, 2 or more.
        leapfrog_steps: L, of the move at each of the T − 1 inner temperatures. Near the posterior
            a few are a whole period of the motion, so that more temperatures pay better.

    Raises:
        InputError: for fewer of any of them.
    """

    chains: int = setting(16, at_least=2)
    steps: int = setting(500, at_least=2)
    leapfrog_steps: int = setting(3, at_least=1)

    def moves(self, walks: int) -> int:
        """The moves of that many walks and their pilot."""
        return walks * (self.steps - 1) + self.pilot_steps - 1

    @property
    def pilot_steps(self) -> int:
        """The increments of the pilot walk, which is no longer than the walk itself."""
        return min(self.steps, max(PILOT_LEAST, round(PILOT_SHARE * self.steps)))


def sigmoidal_schedule(steps: int, steepness: float = 4.0) -> Float[Tensor, " T+1"]:
    """β_t from 0 to 1, finest at both ends, in float64.

    β_t = (σ_t − σ_0)/(σ_T − σ_0) with σ_t = sigmoid(δ(2t/T − 1)) (Grosse et al. 2015,
    arXiv 1511.02543).
    """
    sigmoid = torch.linspace(-steepness, steepness, steps + 1, dtype=torch.float64).sigmoid()
    return (sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])


@dataclass(frozen=True)
class AnnealedEstimate:
    """What C annealed chains say of each of B examples.

    Attributes:
        log_weights: log w of every chain, in nats and float64; E w = p(x).
        acceptance: the mean probability with which an example's moves were accepted.
    """

    log_weights: PerSample
    acceptance: PerExample

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Those of consecutive pieces of a batch."""
        acceptance = torch.cat([part.acceptance for part in parts])
        return cls(torch.cat([part.log_weights for part in parts], dim=1), acceptance)

    @property
    def log_likelihood(self) -> PerExample:
        """Log (1/C) Σ w, in expectation a lower bound on log p(x)."""
        return self.log_weights.logsumexp(dim=0) - math.log(len(self.log_weights))

    @property
    def effective_samples(self) -> PerExample:
        """(Σ w)²/Σ w², between 1 and C."""
        return 1.0 / self.log_weights.softmax(dim=0).square().sum(dim=0)

    @property
    def standard_error(self) -> PerExample:
        """Of ``log_likelihood``, from the spread of w over the chains.

        To first order that of (1/C) Σ w relative to itself. It knows nothing of modes that no
        chain has found.
        """
        chains = len(self.log_weights)
        weights = chains * self.log_weights.softmax(dim=0)
        return weights.std(dim=0) / math.sqrt(chains)


class AnnealedPath:
    """The path of a few examples, with the step size of every move fixed by a pilot walk.

    The pilot is a shorter walk from q0 that moves log ε by (acceptance − 0.65) after every move,
    where the acceptance is a mean over the example's chains. Only its step sizes are kept,
    interpolated between its temperatures. *Exact*: they depend on x and on the pilot's own noise
    alone, so that given them every move of a walk leaves its p_β invariant, and what the
    estimates say of bounds holds for any number of steps. To go on adapting within the walk that
    is weighted would be a *heuristic*: its moves would depend on the past of the chains. That
    0.65, the aim of Wu et al. (2017, arXiv 1611.04273) too, is a good acceptance, and that the
    pilot's step sizes lead the walk to it, are heuristics here as well, but only the tightness of
    the bounds rests on them. ``tick`` is called after every move, of the pilot too.

    Raises:
        InputError: for a q0 without a density.
    """

    def __init__(
        self,
        model: VAE,
        x: Observations,
        q0: Posterior,
        settings: Annealing,
        streams: ExampleStreams,
        tick: Callable[[], None],
    ) -> None:
        self.settings, self._streams, self._tick, self._like = settings, streams, tick, q0.mean
        codes = settings.moves(1) * settings.leapfrog_steps * settings.chains * len(x)
        self._weight = WhitenedWeight(model, x, q0, codes)
        self.step_sizes = self._pilot()

    def forward(self) -> AnnealedEstimate:
        """From q0 to the posterior: log w = Σ_t (β_t − β_{t−1}) log w(u_{t−1}), E w = p(x)."""
        betas = sigmoidal_schedule(self.settings.steps)
        return self._walk(self._start(), betas, self.step_sizes)

    def reverse(self, z: Codes) -> AnnealedEstimate:
        """From a sample of the posterior to q0, by the same moves in the reverse order.

        Then E 1/w = 1/p(x). All chains of an example start from the one sample.
        """
        start = self._weight.noise_of(z).expand(self.settings.chains, -1, -1)
        betas = sigmoidal_schedule(self.settings.steps)
        return self._walk(start, betas.flip(0), self.step_sizes.flip(0))

    def _start(self) -> Samples:
        return self._streams.normal(self.settings.chains, self._like.shape[-1])

    def _move(self, point: Point, beta: float, step_size: Tensor) -> tuple[Point, Tensor]:
        """A move, and its acceptance by example."""
        steps = self.settings.leapfrog_steps
        point, probability = transition(self._weight, point, beta, step_size, steps, self._streams)
        self._tick()
        return point, probability.mean(dim=0)

    def _walk(self, u: Samples, betas: Tensor, step_sizes: Tensor) -> AnnealedEstimate:
        increments = betas.diff().abs().tolist()
        point, acceptance = self._weight(u), torch.zeros_like(self._like[:, 0])
        log_weights = increments[0] * point.log_weight.double()
        moves = zip(betas[1:-1].tolist(), step_sizes, increments[1:], strict=True)
        for beta, step_size, increment in moves:
            point, accepted = self._move(point, beta, step_size)
            acceptance += accepted
            log_weights += increment * point.log_weight.double()
        return AnnealedEstimate(log_weights, acceptance / len(step_sizes))

    def _pilot(self) -> Float[Tensor, "T-1 B"]:
        betas = sigmoidal_schedule(self.settings.pilot_steps)[1:-1].tolist()
        point, found = self._weight(self._start()), []
        log_step = torch.full_like(self._like[:, 0], math.log(PILOT_STEP_SIZE))
        for beta in betas:
            found.append(log_step)
            point, acceptance = self._move(point, beta, log_step.exp())
            log_step = log_step + PILOT_RATE * (acceptance - TARGET_ACCEPTANCE)
        columns, moves = torch.stack(found, dim=-1).unsqueeze(0), self.settings.steps - 1
        return interpolate(columns, size=moves, mode="linear", align_corners=True)[0].T.exp()
