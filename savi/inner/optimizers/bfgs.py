"""The BFGS estimate of a Hessian and of its inverse, from a few moves of every example."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from savi.linear.base import dot, norm
from savi.linear.dense import multiply

InverseMetric = Callable[[Tensor], Tensor]


class Pairs(NamedTuple):
    """The last m moves s, each of length 1, and the changes u of the gradient over them.

    The newest is the last; an empty place holds zeros, and has no effect.
    """

    moves: Float[Tensor, "B M P"]
    changes: Float[Tensor, "B M P"]

    @classmethod
    def none(cls, y: Float[Tensor, "B P"], history: int) -> Pairs:
        """Room for ``history`` pairs."""
        empty = y.new_zeros(len(y), history, y.shape[-1])
        return cls(empty, empty)

    @property
    def known(self) -> Bool[Tensor, " B"]:
        """Which examples have a pair."""
        return self.moves[:, -1].any(dim=-1)

    def followed_by(
        self, move: Float[Tensor, "B P"], change: Float[Tensor, "B P"]
    ) -> tuple[Pairs, Bool[Tensor, " B"]]:
        """With another pair, and without the oldest, where sᵀu > √ε ‖s‖‖u‖; and where that is."""
        with torch.no_grad():
            # BFGS does not change with the scale of a pair: taken as a constant, it is exact.
            size = norm(move).unsqueeze(-1)
            size = torch.where(size > 0, size, torch.ones_like(size))
        s, u = move / size, change / size
        with torch.no_grad():
            bent = dot(s, u) > torch.finfo(s.dtype).eps ** 0.5 * norm(u)
        return Pairs(*(_push(bent, old, new) for old, new in zip(self, (s, u), strict=True))), bent

    def forgotten(self, rows: Bool[Tensor, " B"]) -> Pairs:
        """Without the pairs of some examples."""
        return Pairs(*(torch.where(rows[:, None, None], 0.0, part) for part in self))

    def inverse_product(
        self, g: Float[Tensor, "B P"], metric: InverseMetric | None = None
    ) -> Float[Tensor, "B P"]:
        """A g, with A the estimate of H⁻¹ that begins at A₀, by the two-loop recursion.

        Args:
            g: the vectors.
            metric: v ↦ M v with M positive definite, and A₀ = τM; by default M = I. The scale τ is
                sᵀu / uᵀMu for the newest pair, and 1 without any.
        """
        pairs = list(zip(self.moves.unbind(1), self.changes.unbind(1), strict=True))
        inverses = [_inverse(dot(s, u)).unsqueeze(-1) for s, u in pairs]
        weights = []
        for (s, u), rho in zip(reversed(pairs), reversed(inverses), strict=True):
            weights.append(rho * dot(s, g).unsqueeze(-1))
            g = g - weights[-1] * u
        g = self._scale(metric).unsqueeze(-1) * (g if metric is None else metric(g))
        for (s, u), rho, weight in zip(pairs, inverses, reversed(weights), strict=True):
            g = g + (weight - rho * dot(u, g).unsqueeze(-1)) * s
        return g

    def matrix(self) -> Float[Tensor, "B P P"]:
        """A⁻¹ for M = I, by an update of rank two for each pair."""
        size = self.moves.shape[-1]
        scale = 1.0 / self._scale(None)
        matrix = torch.diag_embed(scale.unsqueeze(-1).expand(-1, size))
        for s, u in zip(self.moves.unbind(1), self.changes.unbind(1), strict=True):
            image = multiply(matrix, s)
            for vector, divisor in ((u, dot(s, u)), (image, -dot(s, image))):
                outer = vector.unsqueeze(-1) * vector.unsqueeze(-2)
                matrix = matrix + _inverse(divisor)[:, None, None] * outer
        return matrix

    def _scale(self, metric: InverseMetric | None) -> Float[Tensor, " B"]:
        """τ."""
        s, u = self.moves[:, -1], self.changes[:, -1]
        size = dot(u, u if metric is None else metric(u))
        return torch.where(self.known, dot(s, u) * _inverse(size), 1.0)


def _push(
    rows: Bool[Tensor, " B"], old: Float[Tensor, "B M P"], new: Float[Tensor, "B P"]
) -> Float[Tensor, "B M P"]:
    shifted = torch.cat([old[:, 1:], new.unsqueeze(1)], dim=1)
    return torch.where(rows[:, None, None], shifted, old)


def _inverse(x: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """1/x, and 0 for the 0 of an empty place."""
    empty = x == 0
    return torch.where(empty, 0.0, 1.0 / torch.where(empty, 1.0, x))
