"""Whether the implicit function theorem's conditions hold at a solution of F(x) = 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from savi.implicit.certificate import MAX_NONLINEARITY, SAFETY, Verdict, occurring
from savi.implicit.nearby import MAX_JUMP, Nearby
from savi.implicit.policy import OnFailure
from savi.implicit.reporter import Reporter
from savi.implicit.theorem import Linearized
from savi.linear.dense import finite_blocks, multiply
from savi.types import Mask, PerExample

#: Above this estimated error of the derivative an example fails.
MAX_ERROR = 1e-2

#: A solution that is further away, relative to its size, counts as none.
MAX_DISTANCE = 0.1

_REPORT = Reporter(
    "implicit derivative without its conditions in some examples", "F", "implicit derivative"
)


@dataclass(frozen=True)
class RootCertificate(Verdict):
    """The conditions of the theorem for F(x; θ) = 0, per example.

    x is a solution point, F is continuously differentiable there, and J = ∂F/∂x is nonsingular. A
    constrained problem adds those that make a KKT point a strict minimum with a derivative:
    positive curvature along the constraints and strict complementarity.

    Here ``error_bound`` is 2 max(‖J⁻¹(J(x + s) − J)‖, Δ) + ε κ₁(J): what J bends on the way to the
    solution, the relative change Δ of J⁻¹ ∂F/∂θ, and rounding; and ``min_curvature`` is infinite
    where the constraints leave no direction.

    Attributes:
        residual: ‖F(x)‖.
        distance: ‖s‖ / max(1, ‖x‖) with the Newton step s = −J⁻¹F(x), an estimate of how far the
            solution is.
        condition: κ₁(J), the condition number of J in the 1-norm.
    """

    residual: PerExample
    distance: PerExample
    condition: PerExample

    def report(self, policy: OnFailure) -> None:
        """Say what is wrong, unless the policy takes care of it.

        Raises:
            ImplicitGradientError: under ``raise``, if any example failed.
        """
        _REPORT(policy, self.findings(), self.kinks, int(self.failed.sum()))


@dataclass(frozen=True)
class Constraints:
    """What a constrained problem asks for beyond the theorem, per example.

    Attributes:
        degenerate: an active constraint with a multiplier of 0.
        infeasible: a constraint that does not hold.
        min_curvature: see :class:`RootCertificate`.
        flat: the curvature that cannot be told from 0.
    """

    degenerate: Mask
    infeasible: Mask
    min_curvature: PerExample
    flat: PerExample


def certify(at: Linearized, constraints: Constraints | None = None) -> RootCertificate:
    """Measure how well x solves F = 0, how regular J is and how smooth F; and judge it."""
    x, factor = at.x, at.factor
    step = -at.solve(at.value)
    distance = torch.linalg.vector_norm(step, dim=-1)
    distance = distance / torch.linalg.vector_norm(x, dim=-1).clamp_min(1.0)
    rounding = torch.finfo(x.dtype).eps * factor.condition
    nearby = Nearby(at.system, x, at.value, lambda p: multiply(at.matrix, p), at.solve, rounding)
    there = Linearized.evaluated(at.system, x + step)[1]
    bending = torch.linalg.matrix_norm(factor.solve(there - at.matrix))
    bending = bending.maximum(nearby.drift(step))
    error = SAFETY * bending + rounding
    kinked = ~(nearby.jump_in_x().maximum(nearby.jump_in_params()) <= MAX_JUMP)

    finite = finite_blocks(at.matrix) & finite_blocks(at.value.unsqueeze(-1))
    regular = finite & ~factor.singular
    solved = (bending <= MAX_NONLINEARITY) & (distance <= MAX_DISTANCE)
    checks = {
        "F or its Jacobian is not finite at the solution": ~finite,
        "the Jacobian ∂F/∂x is singular, so F = 0 fixes no solution": finite & factor.singular,
        "F has a kink at the solution, where there is no derivative, or mixes its rows": (
            regular & kinked
        ),
        "the point given does not solve F = 0 (solve further)": regular & ~solved,
        "the estimated error of the derivative exceeds 1e-2 (solve further, or use float64)": (
            regular & solved & ~(error <= MAX_ERROR)
        ),
    }
    if constraints is not None:
        kinked = kinked | constraints.degenerate
        checks |= {
            "a constraint does not hold at the point given": constraints.infeasible,
            "a constraint is active with a multiplier of 0, where the solution has a kink": (
                constraints.degenerate
            ),
            "the curvature along the constraints is not positive, so the point is no strict "
            "minimum": finite & ~(constraints.min_curvature > constraints.flat),
        }
    return RootCertificate(
        kinks=at.kinks,
        degenerate=None if constraints is None else constraints.degenerate,
        error_bound=torch.where(regular & ~kinked, error, torch.inf),
        min_curvature=None if constraints is None else constraints.min_curvature,
        broken=occurring(checks),
        residual=torch.linalg.vector_norm(at.value, dim=-1),
        distance=distance,
        condition=factor.condition,
    )
