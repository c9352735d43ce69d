"""p(x|z) of levels, such as pixels or words: the outputs are the logits of all levels."""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from savi.types import Index, Observations, PerSample
from savi.vae.likelihoods.base import LIKELIHOODS, Decoded
from savi.vae.likelihoods.levels import Levels, LevelsLikelihood
from savi.vae.likelihoods.log_softmax import chosen_log_softmax, score
from savi.vae.quadratic import Outputs, OutputTerms, Values, Vectors

#: Logits, L for each of the D entries, entry by entry.
Logits: TypeAlias = Float[Tensor, "*S B DL"]


@LIKELIHOODS.register("categorical")
class CategoricalLikelihood(LevelsLikelihood):
    """log p(x|z) = Σ_i [o_{i,k_i} − log Σ_l exp o_{i,l}], for entries x_i = k_i/(L − 1).

    Of each entry the Fisher weight is the L×L matrix diag(p) − p pᵀ, and −∇² log p is the same
    whatever x is. Entries below 0 are padding: they have no part in anything.

    Attributes:
        ordered: whether they are those of a quantity, so that differences mean something.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.ordered = True

    @property
    def outputs_per_entry(self) -> int:
        """L."""
        return self.levels

    def log_density(self, x: Observations, o: Logits) -> Decoded:
        """The log-probabilities of the levels; 0 where there is none."""
        return self.log_probability(self.level(x), o)

    def log_probability(self, k: Levels, o: Logits) -> Decoded:
        """The log-probabilities of levels; 0 of padding."""
        logits = self.split(o)
        index = k.clamp_min(0).expand(logits.shape[:-1]).unsqueeze(-1)
        return chosen_log_softmax(logits, index).squeeze(-1) * (k >= 0)

    def forward(
        self, x: Observations, o: Float[Tensor, "S B DL"], outer: bool = False
    ) -> tuple[PerSample, PerSample]:
        """The values of log p(x|z) in nats, and ‖x − E[x|o]‖² without a graph, 0 of words."""
        x, log_prob = self.observed(x), self.log_prob(x, o)
        if not self.ordered:
            return log_prob, torch.zeros_like(log_prob.detach())
        error = (x - self.mean(o.detach())) * (x >= 0)
        return log_prob, error.square().sum(dim=-1)

    def mean(self, o: Logits) -> Decoded:
        """Σ_l p_l l/(L − 1)."""
        levels = torch.arange(self.levels, dtype=o.dtype, device=o.device)
        return self.split(o).softmax(dim=-1) @ (levels / (self.levels - 1))

    def sample(self, o: Logits, generator: torch.Generator) -> Decoded:
        """By the quantiles of uniform numbers."""
        below = self.split(o).softmax(dim=-1).cumsum(dim=-1)
        u = torch.rand(
            below.shape[:-1], generator=generator, dtype=o.dtype, device=generator.device
        )
        k = (below < u.to(o.device).unsqueeze(-1)).sum(dim=-1).clamp_max(self.levels - 1)
        return k.to(o.dtype) / (self.levels - 1)

    def drawn(self, o: Logits, generator: torch.Generator | None) -> Decoded:
        """A sample, or the mean; of words, which have none, the most probable ones."""
        if generator is None and not self.ordered:
            return self.split(o).argmax(dim=-1).to(o.dtype) / (self.levels - 1)
        return super().drawn(o, generator)

    def score(self, x: Observations, o: Logits) -> Logits:
        """Ones at the levels, less the probabilities."""
        return self.log_probability_and_score(self.level(x), o)[1]

    def log_probability_and_score(self, k: Levels, o: Logits) -> tuple[Decoded, Logits]:
        """Both."""
        logits = self.split(o)
        index = k.clamp_min(0).expand(logits.shape[:-1]).unsqueeze(-1)
        known = (k >= 0).to(o).expand(logits.shape[:-1])
        log_p = chosen_log_softmax(logits, index).squeeze(-1) * known
        return log_p, score(logits, index, known.unsqueeze(-1)).flatten(-2)

    def curvature(self, x: Observations, o: Logits) -> Logits:
        """The diagonal of −∇² log p."""
        known = (self.level(x) >= 0).unsqueeze(-1)
        return (self.split(self.fisher(o)) * known).flatten(-2)

    def fisher(self, o: Logits) -> Logits:
        """The diagonal p(1 − p) of the Fisher matrix."""
        log_p = self.split(o).log_softmax(dim=-1)
        # Exact also where p is nearly 1.
        return (log_p.exp() * -torch.expm1(log_p)).flatten(-2)

    def known_times(self, k: Levels, o: Logits, v: Vectors) -> Vectors:
        """The Fisher matrix times vectors, of padding 0."""
        return self._times(self.split(o).softmax(dim=-1) * (k >= 0).unsqueeze(-1), v)

    def fisher_times(self, o: Logits, v: Vectors) -> Vectors:
        """The product p ∘ (v − pᵀv), entry by entry."""
        return self._times(self.split(o).softmax(dim=-1), v)

    def _times(self, p: Float[Tensor, "*S B D L"], v: Vectors) -> Vectors:
        p, parts = p.unsqueeze(-3), self.split(v)
        return (p * (parts - (p * parts).sum(dim=-1, keepdim=True))).flatten(-2)

    def terms(self, x: Observations) -> CategoricalTerms:
        """The function o ↦ log p(x|o) of a batch."""
        return CategoricalTerms(self, self.level(self.observed(x)))


class CategoricalTerms(OutputTerms):
    """f(o) = log p(x|o) of levels k, which are taken from x once.

    Args:
        likelihood: p.
        levels: k.
    """

    def __init__(self, likelihood: CategoricalLikelihood, levels: Levels) -> None:
        self.likelihood, self.levels = likelihood, levels

    def __call__(self, o: Outputs) -> tuple[Values, Outputs]:
        """f(o) and the score."""
        log_p, score = self.likelihood.log_probability_and_score(self.levels, o)
        return log_p.sum(dim=-1), score

    def value(self, o: Outputs) -> Values:
        """f(o)."""
        return self.likelihood.log_probability(self.levels, o).sum(dim=-1)

    def curvature(self, o: Outputs, v: Vectors) -> Vectors:
        """Every vector times −∇²f at o."""
        return self.likelihood.known_times(self.levels, o, v)

    def fisher(self, o: Outputs, v: Vectors) -> Vectors:
        """The same: −∇²f depends on x by its padding alone."""
        return self.curvature(o, v)

    def rows(self, index: Index) -> CategoricalTerms:
        """With those rows of k."""
        return CategoricalTerms(self.likelihood, self.levels[index])
