"""What the layer returns."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.implicit.qp.problem import QPData
from savi.implicit.qp.scaled import largest, or_one


@dataclass(frozen=True)
class QPSolution:
    """Solutions of a batch of quadratic programs, and what vouches for them.

    ``value`` and the multipliers have derivatives in all parameters. They are NaN for an example
    that was not solved, whose derivatives are 0.

    Attributes:
        value: x.
        equality_multipliers: y of Qx + q + Aᵀy + Gᵀz = 0.
        inequality_multipliers: z >= 0.
        status: shape [B], integer values of :class:`QPStatus`.
        steps: of the interior-point method.
        residual: the largest violation of a KKT condition, relative to the terms that cancel in it.
        gap: the duality gap zᵀ(h − Gx), in the units of the objective.
        active: which inequalities hold with equality and enter the derivative.
        degenerate: where the theorem's conditions fail: an active constraint with a multiplier of 0
            (a kink of x), linearly dependent active constraints, or a minimum that is not unique.
            A derivative there is one of several, and a backward or jvp says so.
        farkas_equalities: with ``farkas_inequalities``, the proof of INFEASIBLE: a ray (y, z) with
            z >= 0, Aᵀy + Gᵀz = 0 and bᵀy + hᵀz < 0; 0 for other examples.
        farkas_inequalities: z of that ray.
        descent_ray: the proof of UNBOUNDED: d with Qd = 0, Ad = 0, Gd <= 0 and qᵀd < 0 (Q and q
            on the null space of A); 0 for other examples.
    """

    value: Float[Tensor, "B n"]
    equality_multipliers: Float[Tensor, "B m"]
    inequality_multipliers: Float[Tensor, "B p"]
    status: Int[Tensor, " B"]
    steps: Int[Tensor, " B"]
    residual: Float[Tensor, " B"]
    gap: Float[Tensor, " B"]
    active: Bool[Tensor, "B p"]
    degenerate: Bool[Tensor, " B"]
    farkas_equalities: Float[Tensor, "B m"]
    farkas_inequalities: Float[Tensor, "B p"]
    descent_ray: Float[Tensor, "B n"]
    _data: QPData = field(repr=False)

    @property
    def solved(self) -> Bool[Tensor, " B"]:
        """Which examples have a solution."""
        return self.status == QPStatus.SOLVED

    @cached_property
    def condition(self) -> Float[Tensor, " B"]:
        """κ₂ of the KKT matrix [Q Aᵀ G_Iᵀ; A 0 0; G_I 0 0] that the derivative inverts.

        Q is divided by its largest entry and the rows of A and G by their norms. NaN for an example
        that was not solved. Computed when first asked for, from all singular values.
        """
        Q, _, A, _, G, _ = self._data
        batch, n = self.value.shape
        rows = torch.cat([_unit_rows(M).expand(batch, -1, -1) for M in (A, G)], dim=1)
        equalities = torch.ones_like(self.farkas_equalities, dtype=torch.bool)
        kept = torch.cat([equalities, self.active], dim=1)
        size = n + rows.shape[1]
        K = torch.zeros(batch, size, size, dtype=Q.dtype, device=Q.device)
        K[:, :n, :n] = Q / or_one(largest(Q.flatten(1)))[:, None, None]
        K[:, n:, :n] = rows * kept.unsqueeze(-1)
        K[:, :n, n:] = K[:, n:, :n].mT
        # An inactive row is left out: its place holds a singular value among the others.
        filler = torch.linalg.vector_norm(K[:, :, 0], dim=-1, keepdim=True)
        K[:, n:, n:] = torch.diag_embed(torch.where(kept, 0.0, filler))
        condition = torch.full_like(self.residual, torch.nan)
        values = torch.linalg.svdvals(K[self.solved])
        condition[self.solved] = values[:, 0] / values[:, -1]
        return condition


def _unit_rows(M: Float[Tensor, "S m n"]) -> Float[Tensor, "S m n"]:
    return M / or_one(torch.linalg.vector_norm(M, dim=-1, keepdim=True))


class QPStatus(IntEnum):
    """The outcome of one example; ``advice`` says what to do about it."""

    SOLVED = 0
    INFEASIBLE = 1
    UNBOUNDED = 2
    NON_CONVEX = 3
    NOT_FINITE = 4
    MAX_STEPS = 5
    STALLED = 6

    @property
    def advice(self) -> str:
        """One sentence: what this outcome means, and what to change."""
        return _ADVICE[self]

    @property
    def label(self) -> str:
        """The name in lower case, in words."""
        return self.name.lower().replace("_", " ")


_ADVICE = {
    QPStatus.SOLVED: "The relative KKT residual is at most the tolerance.",
    QPStatus.INFEASIBLE: (
        "No x satisfies the constraints, as the ray (y, z) of the solution proves: relax h or b, "
        "or add slack variables that are penalised."
    ),
    QPStatus.UNBOUNDED: (
        "The objective falls for ever along the ray d of the solution: add curvature to Q, or "
        "constraints that bound x."
    ),
    QPStatus.NON_CONVEX: (
        "Q has negative curvature along directions that Ax = b allows: make Q positive "
        "semidefinite, as in Q = LLᵀ."
    ),
    QPStatus.NOT_FINITE: "A parameter is infinite or NaN: give finite numbers.",
    QPStatus.MAX_STEPS: "The steps ran out: raise max_steps or tolerance.",
    QPStatus.STALLED: (
        "Rounding errors keep the residual above the tolerance: bring the parameters to similar "
        "sizes, set h to inf where there is no bound, or raise tolerance."
    ),
}


class QPWarning(UserWarning):
    """Some quadratic programs of a batch have no solution."""


class QPError(RuntimeError):
    """As :class:`QPWarning`, under ``on_failure="raise"``."""


def report(status: Int[Tensor, " B"], on_failure: str) -> None:
    """Say in one sentence how many examples failed, how, and what to do.

    Raises:
        QPError: under ``raise``, if any example failed.
    """
    failed = status[status != QPStatus.SOLVED]
    if not len(failed):
        return
    kinds, counts = torch.unique(failed, return_counts=True)
    told = "; ".join(
        f"{count} {QPStatus(kind).label} ({QPStatus(kind).advice.rstrip('.')})"
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)
    )
    message = (
        f"{len(failed)} of {len(status)} quadratic programs have no solution here, their value is "
        f"NaN and their gradient 0: {told}"
    )
    if on_failure == "raise":
        raise QPError(message)
    warnings.warn(message, QPWarning, stacklevel=3)
