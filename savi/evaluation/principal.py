"""Principal components: a yardstick that needs no training which could fail."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: Training examples that principal components are computed from at most.
EXAMPLES = 10_000
#: Directions beyond the wanted ones in the randomised decomposition, and its power iterations.
OVERSAMPLING, POWER_ITERATIONS = 8, 4
#: The decomposition's own seed.
SEED = 7_919


@dataclass(frozen=True)
class PrincipalComponents:
    """The mean of training examples and the directions in which they vary most.

    Attributes:
        mean: x̄.
        axes: the first directions, orthonormal columns.
        eigenvalues: the variances along them, falling.
        total: the sum of all variances.
    """

    mean: Float[Tensor, " D"]
    axes: Float[Tensor, "D r"]
    eigenvalues: Float[Tensor, " r"]
    total: float

    @classmethod
    def fit(cls, train: Float[Tensor, "N D"], count: int) -> PrincipalComponents:
        """Those of the training examples (of some, if there are many).

        The decomposition is randomised, and leaves the global random state alone.
        """
        train = train[:EXAMPLES].cpu()
        directions = min(count + OVERSAMPLING, *train.shape)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(SEED)
            _, scales, axes = torch.pca_lowrank(train, q=directions, niter=POWER_ITERATIONS)
        mean, total = train.mean(dim=0), float(train.double().var(dim=0, correction=0).sum())
        return cls(mean, axes[:, :count], scales[:count].double().square() / len(train), total)

    def error(self, x: Float[Tensor, "M D"]) -> float:
        """The mean squared error per dimension of the examples put back together from them."""
        axes, centred = self.axes.to(x), x - self.mean.to(x)
        return float((centred - centred @ axes @ axes.mT).square().double().mean())

    def log_likelihoods(
        self, x: Float[Tensor, "M D"], floor: float
    ) -> Float[Tensor, "M components"]:
        """Log p(x) in nats by probabilistic principal components, with 0, 1, … of them.

        With k components the covariance has the k eigenvalues, and the mean σ² of the others
        (Tipping and Bishop 1999), which is held at the floor of γ as a VAE's is. There are fewer
        components than dimensions, so that there is a σ².
        """
        dim = x.shape[1]
        most = min(len(self.eigenvalues), dim - 1)
        centred = (x.cpu() - self.mean).double()
        values = self.eigenvalues[:most].clamp_min(floor)
        along = (centred @ self.axes[:, :most].double()).square()

        def running(terms: Tensor) -> Tensor:
            """The sums of the first 0, 1, … of the last dimension."""
            return torch.nn.functional.pad(terms.cumsum(dim=-1), (1, 0))

        rest = dim - torch.arange(most + 1)
        noise = ((self.total - running(self.eigenvalues[:most])) / rest).clamp_min(floor)
        off = (centred.square().sum(dim=1, keepdim=True) - running(along)).clamp_min(0.0)
        log_det = running(values.log()) + rest * noise.log()
        return -0.5 * (
            dim * math.log(2 * math.pi) + log_det + running(along / values) + off / noise
        )
