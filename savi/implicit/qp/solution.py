"""What the layer returns, and what is said of the examples that failed."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from savi.implicit.policy import OnFailure
from savi.implicit.qp.matrices import largest, or_one, row_norms
from savi.implicit.qp.program import QPData
from savi.implicit.reporter import Finding, say
from savi.types import Active, Counts, Equalities, Index, Inequalities, Mask, PerExample, Points


@dataclass(frozen=True)
class QPSolution:
    """Solutions of a batch of quadratic programs, and what vouches for them.

    ``value`` and the multipliers have derivatives in all parameters. They are NaN for an example
    that was not solved, whose derivatives are 0.

    Attributes:
        value: x.
        equality_multipliers: y of Qx + q + Aᵀy + Gᵀz = 0; the shortest where rows of A depend on
            the others.
        inequality_multipliers: z >= 0.
        status: shape [B], integer values of :class:`QPStatus`.
        steps: of the interior-point method.
        residual: the largest violation of a KKT condition, relative to the terms that cancel in it;
            where these may hide an error, also along the eigenvectors of Q, and the duality gap.
        gap: the duality gap zᵀ(h − Gx), in the units of the objective.
        active: which inequalities hold with equality and enter the derivative.
        degenerate: where the theorem's conditions fail: an active constraint with a multiplier of 0
            (a kink of x), linearly dependent active inequalities, or a minimum that is not unique.
            A derivative there is one of several, and a backward or jvp says so.
        farkas_equalities: with ``farkas_inequalities``, the proof of INFEASIBLE: a ray (y, z) with
            z >= 0, Aᵀy + Gᵀz = 0 and bᵀy + hᵀz < 0; 0 for other examples.
        farkas_inequalities: z of that ray.
        descent_ray: the proof of UNBOUNDED: d with Qd = 0, Ad = 0, Gd <= 0 and qᵀd < 0 (Q and q
            on the null space of A); 0 for other examples.
    """

    value: Points
    equality_multipliers: Equalities
    inequality_multipliers: Inequalities
    status: Counts
    steps: Counts
    residual: PerExample
    gap: PerExample
    active: Active
    degenerate: Mask
    farkas_equalities: Equalities
    farkas_inequalities: Inequalities
    descent_ray: Points
    _data: QPData = field(repr=False)

    @classmethod
    def unknown(cls, data: QPData) -> QPSolution:
        """What is known of programs that are not finite, in memory of their own."""
        batch, n, m, p = data.batch, data.Q.shape[-1], data.A.shape[1], data.G.shape[1]

        def full(*shape: int, value: float = torch.nan) -> Tensor:
            return data.Q.new_full((batch, *shape), value)

        none = torch.zeros(batch, dtype=torch.long, device=data.Q.device)
        return cls(
            value=full(n),
            equality_multipliers=full(m),
            inequality_multipliers=full(p),
            status=torch.full_like(none, QPStatus.NOT_FINITE),
            steps=none,
            residual=full(),
            gap=full(),
            active=torch.zeros_like(full(p), dtype=torch.bool),
            degenerate=torch.zeros_like(none, dtype=torch.bool),
            farkas_equalities=full(m, value=0.0),
            farkas_inequalities=full(p, value=0.0),
            descent_ray=full(n, value=0.0),
            _data=data,
        )

    def write(self, index: Index, part: QPSolution) -> None:
        """Put the solutions of some examples in their places."""
        for name, whole in self._tensors().items():
            whole[index] = getattr(part, name)

    def take(self, index: Index) -> QPSolution:
        """Those of some examples."""
        some = {name: whole[index] for name, whole in self._tensors().items()}
        return replace(self, **some, _data=self._data.take(index))

    def to(self, dtype: torch.dtype) -> QPSolution:
        """With numbers of that type; the parameters stay as they are."""
        numbers: dict[str, Any] = {
            k: v.to(dtype) for k, v in self._tensors().items() if v.is_floating_point()
        }
        return replace(self, **numbers)

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    @property
    def point(self) -> tuple[Points, Equalities, Inequalities]:
        """x, y and z."""
        return self.value, self.equality_multipliers, self.inequality_multipliers

    @property
    def solved(self) -> Mask:
        """Which examples have a solution."""
        return self.status == QPStatus.SOLVED

    @cached_property
    def condition(self) -> PerExample:
        """κ₂ of the KKT matrix [Q Aᵀ G_Iᵀ; A 0 0; G_I 0 0] that the derivative inverts.

        Q is divided by its largest entry and the rows of A and G by their norms. NaN for an example
        that was not solved. Computed when first asked for, from all singular values.
        """
        Q, _, A, _, G, _ = self._data
        batch, n = self.value.shape
        rows = [(M / row_norms(M).unsqueeze(-1)).expand(batch, -1, -1) for M in (A, G)]
        equalities = torch.ones_like(self.farkas_equalities, dtype=torch.bool)
        kept = torch.cat([equalities, self.active], dim=1)
        size = n + kept.shape[1]
        K = torch.zeros(batch, size, size, dtype=Q.dtype, device=Q.device)
        K[:, :n, :n] = Q / or_one(largest(Q.flatten(1)))[:, None, None]
        K[:, n:, :n] = torch.cat(rows, dim=1) * kept.unsqueeze(-1)
        K[:, :n, n:] = K[:, n:, :n].mT
        # An inactive row is left out: its place holds a singular value among the others.
        filler = torch.linalg.vector_norm(K[:, :, 0], dim=-1, keepdim=True)
        K[:, n:, n:] = torch.diag_embed(torch.where(kept, 0.0, filler))
        condition = torch.full_like(self.residual, torch.nan)
        values = torch.linalg.svdvals(K[self.solved])
        condition[self.solved] = (values[:, 0] / values[:, -1]).to(condition.dtype)
        return condition


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
        "Rounding errors decide, as where constraints are nearly parallel: bring the parameters to "
        "similar sizes, set h to inf where there is no bound, leave out constraints that nearly "
        "repeat others, or raise tolerance."
    ),
}


class QPWarning(UserWarning):
    """Some quadratic programs of a batch have no solution."""


class QPError(RuntimeError):
    """As :class:`QPWarning`, under ``on_failure="raise"``."""


def failures(status: Counts) -> str | None:
    """One sentence: how many examples failed, how, and what to do; None if none did."""
    failed = status[status != QPStatus.SOLVED]
    if not len(failed):
        return None
    kinds, counts = torch.unique(failed, return_counts=True)
    told = "; ".join(
        f"{count} {QPStatus(kind).label} ({QPStatus(kind).advice.rstrip('.')})"
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)
    )
    return (
        f"{len(failed)} of {len(status)} quadratic programs have no solution here, their value is "
        f"NaN and their gradient 0: {told}"
    )


def tell(
    on_failure: str, message: str, warning: type[Warning], error: type[Exception], *of: Finding
) -> None:
    """Warn of failed examples, raise, or be silent: the one place that knows the policies.

    Raises:
        Exception: ``error``, under ``raise``.
    """
    if on_failure == OnFailure.MASK.value:
        return
    if on_failure == OnFailure.RAISE.value:
        counts = [f"{finding.kind} ({finding.examples} examples)" for finding in of]
        raise error("; ".join([message, *counts]))
    say(message, of, warning)
