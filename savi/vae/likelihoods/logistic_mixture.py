"""p(x|z) of pixels: mixtures of logistic distributions, each of whose levels takes its share."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from savi.errors import require_at_least
from savi.types import Observations, PerSample
from savi.vae.likelihoods.base import LIKELIHOODS, Decoded
from savi.vae.likelihoods.levels import LevelsLikelihood, PerEntry
from savi.vae.quadratic import Vectors

#: A number for each logistic of an entry.
Logistics: TypeAlias = Float[Tensor, "*S B D M"]

#: log s differs from that of outputs 0 by less than this.
REACH = 7.0
#: Scores of all levels are computed in pieces of so many numbers, which a cache holds.
PIECE = 2**17


class Mixture(NamedTuple):
    """The M logistics of every entry.

    Attributes:
        log_weight: log π.
        mean: μ, in the units of x.
        scale: s.
        bend: ∂ log s/∂o.
    """

    log_weight: Logistics
    mean: Logistics
    scale: Logistics
    bend: Logistics


@LIKELIHOODS.register("logistic_mixture")
class LogisticMixtureLikelihood(LevelsLikelihood):
    """log p(x|z) = Σ_i log Σ_m π_im [σ((x_i + h − μ_im)/s_im) − σ((x_i − h − μ_im)/s_im)].

    For entries x_i = k_i/(L − 1), with h = 1/(2(L − 1)); level 0 takes all that is below it, and
    level L − 1 all above (Salimans et al. 2017, PixelCNN++, arXiv 1701.05517). Given z, entries are
    independent: the autoregression of colours in that paper is left out. Of an entry the outputs
    are M logits of π, M of μ and M of s,

        μ_m = (m + ½)/M + o,    log s_m = −log 2M + c tanh(o/c),    m = 0, …, M − 1,  c = 7:

    at o = 0 the logistics cover [0, 1] apart from each other, and however large o is, s is far
    below the distance of levels at the least, and the logarithm finite.

    The Fisher weight of an entry is the exact 3M×3M matrix Σ_k p(k) ∇log p(k) ∇log p(k)ᵀ over all
    levels. log p is not concave in o: −∇² log p may be indefinite.

    Args:
        dim: D.
        logistics: M.

    Raises:
        SettingError: for less than one logistic.
    """

    ordinal = True

    def __init__(self, dim: int, logistics: int = 5) -> None:
        super().__init__(dim)
        require_at_least("logistics", logistics, 1)
        self.logistics = logistics

    @property
    def outputs_per_entry(self) -> int:
        """3M."""
        return 3 * self.logistics

    def mixture(self, o: PerEntry) -> Mixture:
        """What the outputs mean."""
        logits, shift, log_scale = self.split(o).chunk(3, dim=-1)
        number = torch.arange(self.logistics, dtype=o.dtype, device=o.device)
        bounded = (log_scale / REACH).tanh()
        return Mixture(
            logits.log_softmax(dim=-1),
            (number + 0.5) / self.logistics + shift,
            (REACH * bounded).exp() / (2.0 * self.logistics),
            1.0 - bounded.square(),
        )

    def log_density(self, x: Observations, o: PerEntry) -> Decoded:
        """The log-probabilities of the levels."""
        mixture = self.mixture(o)
        return self._log_joint(self._at(x), mixture).logsumexp(dim=-1)

    def score(self, x: Observations, o: PerEntry) -> PerEntry:
        """∂ log p/∂o, in closed form: the logistics' own scores by their share in the level."""
        return self._score(self._at(x), self.mixture(o))[1].flatten(-2)

    def curvature_times(self, x: Observations, o: PerEntry, v: Vectors) -> Vectors:
        """−∇² log p times vectors: tangents of the score."""

        def product(direction: Tensor) -> Tensor:
            tangent = direction.expand_as(o)
            return -torch.func.jvp(lambda o: self.score(x, o), (o,), (tangent,))[1]

        found: Tensor = torch.func.vmap(product, in_dims=-2, out_dims=-2)(v)
        return found

    def curvature(self, x: Observations, o: PerEntry) -> PerEntry:
        """The diagonal of −∇² log p."""
        size = self.outputs_per_entry
        ones = torch.eye(size, dtype=o.dtype, device=o.device).repeat(1, self.dim)
        columns = self.split(self.curvature_times(x, o, ones))
        return columns.diagonal(dim1=-3, dim2=-1).flatten(-2)

    def fisher_blocks(self, o: PerEntry) -> Float[Tensor, "*S B D E E"]:
        """Σ_k p(k) ∇log p(k) ∇log p(k)ᵀ of every entry."""
        size, x = self.outputs_per_entry, self._middles(o).unsqueeze(-1)
        blocks = []
        for piece in self.split(o).reshape(-1, size).split(max(1, PIECE // (size * self.levels))):
            log_p, score = self._score(x, self.mixture(piece.unsqueeze(-2)))
            blocks.append((log_p.exp().unsqueeze(-1) * score).mT @ score)
        return torch.cat(blocks).reshape(*self.split(o).shape, size)

    def fisher(self, o: PerEntry) -> PerEntry:
        """The diagonal of the Fisher matrix."""
        return self.fisher_blocks(o).diagonal(dim1=-2, dim2=-1).flatten(-2)

    def fisher_times(self, o: PerEntry, v: Vectors) -> Vectors:
        """The Fisher matrix times vectors, entry by entry."""
        parts = self.split(v).transpose(-3, -2)
        return (parts @ self.fisher_blocks(o)).transpose(-3, -2).flatten(-2)

    def mean(self, o: PerEntry) -> Decoded:
        """Σ_k p(k) k/(L − 1), which is the sum of P(k ≥ j)/(L − 1) over j = 1, …, L − 1."""
        mixture = self.mixture(o)
        above = torch.zeros_like(mixture.mean)
        for middle in self._middles(o)[1:]:
            above = above + ((mixture.mean - (middle - self._half)) / mixture.scale).sigmoid()
        return (mixture.log_weight.exp() * above).sum(dim=-1) / (self.levels - 1)

    def unrounded_mean(self, o: PerEntry) -> Decoded:
        """E min(max(y, 0), 1) of y from the mixture, before it is rounded to a level.

        Within h of the mean, as rounding is, and without a sum over levels:
        Σ_m π_m s_m [log(1 + exp(μ_m/s_m)) − log(1 + exp((μ_m − 1)/s_m))].
        """
        log_weight, mean, scale, _ = self.mixture(o)
        # log(1 + eᵘ) = u − log σ(u).
        rest = logsigmoid((mean - 1.0) / scale) - logsigmoid(mean / scale)
        return (log_weight.exp() * (1.0 + scale * rest)).sum(dim=-1)

    def forward(
        self, x: Observations, o: Float[Tensor, "S B F"], outer: bool = False
    ) -> tuple[PerSample, PerSample]:
        """The values of log p(x|z) in nats, and ‖x − m‖² without a graph.

        m is the :meth:`unrounded_mean`: the sum over levels would cost more than a training step.
        """
        error = self.observed(x) - self.unrounded_mean(o.detach())
        return self.log_prob(x, o), error.square().sum(dim=-1)

    def sample(self, o: PerEntry, generator: torch.Generator) -> Decoded:
        """The level nearest to a sample of a logistic that is drawn by its weight."""
        log_weight, mean, scale, _ = self.mixture(o)
        u = torch.rand(
            2, *mean.shape[:-1], generator=generator, dtype=o.dtype, device=generator.device
        )
        which, u = u.to(o.device).unsqueeze(-1)
        below = log_weight.exp().cumsum(dim=-1)
        m = (below < which).sum(dim=-1, keepdim=True).clamp_max(self.logistics - 1)
        # Inside (0, 1), where the quantiles are finite.
        u = u.clamp(torch.finfo(o.dtype).tiny, 1.0 - torch.finfo(o.dtype).eps)
        y = mean.gather(-1, m) + scale.gather(-1, m) * u.logit()
        k = (y.squeeze(-1) * (self.levels - 1)).round().clamp(0, self.levels - 1)
        return k / (self.levels - 1)

    @property
    def _half(self) -> float:
        return 0.5 / (self.levels - 1)

    def _at(self, x: Observations) -> Float[Tensor, "*S B D 1"]:
        """The middles of the entries' levels."""
        return (self.level(x).to(x.dtype) / (self.levels - 1)).unsqueeze(-1)

    def _middles(self, o: PerEntry) -> Float[Tensor, " L"]:
        """The values of x at all levels."""
        return torch.arange(self.levels, dtype=o.dtype, device=o.device) / (self.levels - 1)

    def _log_joint(self, x: Float[Tensor, "*S B D 1"], mixture: Mixture) -> Logistics:
        """Log π_m + log p_m(x).

        σ(b) − σ(a) = σ(b) σ(−a) (1 − e^{a − b}), of which nothing cancels. At the edges only one of
        the sigmoids is there.
        """
        above, below = self._edges(x)
        u, width = (x - mixture.mean) / mixture.scale, 2.0 * self._half / mixture.scale
        left = below * logsigmoid(u + 0.5 * width)
        right = above * logsigmoid(0.5 * width - u)
        inside = above * below * torch.log(-torch.expm1(-width))
        return mixture.log_weight + left + right + inside

    def _score(
        self, x: Float[Tensor, "*S B D 1"], mixture: Mixture
    ) -> tuple[Decoded, Float[Tensor, "*S B D E"]]:
        """Log p(x) of every entry, and its derivatives in logits, shifts and log-scales."""
        above, below = self._edges(x)
        u, width = (x - mixture.mean) / mixture.scale, 2.0 * self._half / mixture.scale
        a, b = u - 0.5 * width, u + 0.5 * width
        left, right = below * (-b).sigmoid(), above * a.sigmoid()
        # w/(eʷ − 1), for any w that there is.
        inside = above * below * width * (-width).exp() / -torch.expm1(-width)
        log_joint = self._log_joint(x, mixture)
        log_p = log_joint.logsumexp(dim=-1, keepdim=True)
        share = (log_joint - log_p).exp()
        of_shift = share * (right - left) / mixture.scale
        of_scale = share * (a * right - b * left - inside) * mixture.bend
        weight = (share - mixture.log_weight.exp()).expand_as(of_shift)
        return log_p.squeeze(-1), torch.cat([weight, of_shift, of_scale], dim=-1)

    def _edges(self, x: Float[Tensor, "*S B D 1"]) -> tuple[Tensor, Tensor]:
        """Ones where there is a level below, and where there is one above; 0 elsewhere."""
        return (x > self._half).to(x.dtype), (x < 1.0 - self._half).to(x.dtype)
