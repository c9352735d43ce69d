"""Bidirectional Monte Carlo: bounds on log p(x) from both sides, on data from the model itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import require_at_least
from savi.evaluation.ais import AnnealedEstimate, annealed_paths
from savi.evaluation.annealing import Annealing
from savi.evaluation.progress import Progress, silent
from savi.vae.distributions import Posterior
from savi.vae.model import GaussianVAE

#: From observations to a law near their posteriors.
Initial = Callable[[Tensor], Posterior]


@dataclass(frozen=True)
class Sandwich:
    """Bounds on log p(x) of n simulated examples, in nats: lower ≤ log p(x) ≤ upper on average.

    Attributes:
        x: the examples.
        forward: annealed importance sampling from q0: its log-likelihood is the lower bound.
        reverse: the same walks backwards from the codes that the examples were made of.
    """

    x: Float[Tensor, "n D"]
    forward: AnnealedEstimate
    reverse: AnnealedEstimate

    @property
    def lower(self) -> Float[Tensor, " n"]:
        """Log (1/C) Σ w of the forward chains."""
        return self.forward.log_likelihood

    @property
    def upper(self) -> Float[Tensor, " n"]:
        """−log (1/C) Σ 1/w of the reverse chains."""
        log_weights = self.reverse.log_weights
        return math.log(len(log_weights)) - (-log_weights).logsumexp(dim=0)

    @property
    def gap(self) -> Float[Tensor, " n"]:
        """Upper − lower; noise can make a small one negative."""
        return self.upper - self.lower


@torch.no_grad()
def bidirectional_monte_carlo(
    model: GaussianVAE,
    n: int,
    annealing: Annealing,
    generator: torch.Generator,
    initial: Initial | None = None,
    progress: Progress = silent,
) -> Sandwich:
    """How tight annealed importance sampling is, where an exact posterior sample is at hand.

    z* ~ p(z) and x ~ p(x|z*) make z* a sample of p(z|x). Walks from there to q0, by the moves of
    annealed importance sampling in the reverse order, have E 1/w = 1/p(x): with the walks from q0
    they enclose log p(x) (Grosse et al. 2015, arXiv 1511.02543; 2016, arXiv 1606.02275). What
    the gap says of other data rests on the simulated ones being like them.

    Args:
        model: p(x, z).
        n: how many examples are simulated.
        annealing: the chains and the temperatures.
        generator: the source of all noise, that of the data too.
        initial: x ↦ q0, which must not know z*; the prior by default.
        progress: called after every move.

    Raises:
        InputError: for less than one example, or for an ``initial`` without a density.
    """
    require_at_least("n", n, 1)
    z, x = simulate(model, n, generator)
    q0 = None if initial is None else initial(x)
    walks = [
        (path.forward(), path.reverse(z[part]))
        for part, path in annealed_paths(
            model, x, annealing, generator, q0, walks=2, progress=progress
        )
    ]
    forward, reverse = (AnnealedEstimate.join(direction) for direction in zip(*walks, strict=True))
    return Sandwich(x, forward, reverse)


def simulate(
    model: GaussianVAE, n: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n D"]]:
    """Codes of the prior, and observations of them with their noise."""
    like = next(model.decoder.parameters())
    device = generator.device
    z = torch.randn(n, model.latent_dim, generator=generator, dtype=like.dtype, device=device)
    mean = model.decode(z.to(like.device))
    noise = torch.randn(mean.shape, generator=generator, dtype=like.dtype, device=device)
    return z.to(like.device), mean + model.gamma().sqrt() * noise.to(like.device)
