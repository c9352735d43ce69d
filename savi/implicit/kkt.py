"""The solution of a constrained problem as a differentiable function of its parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.implicit.multipliers import Multipliers, multipliers, reduced_curvature
from savi.implicit.policy import OnFailure
from savi.implicit.problem import Problem
from savi.implicit.root import POLICIES, ImplicitSolution, attached
from savi.implicit.root_certificate import Constraints, certify
from savi.implicit.system import System, require_tensors
from savi.implicit.theorem import Linearized
from savi.types import Active, Equalities, Inequalities, Points, Rows


@dataclass(frozen=True)
class KKTSolution(ImplicitSolution):
    """The solution of a constrained problem with its derivative.

    Attributes:
        equality_multipliers: u, with derivatives.
        inequality_multipliers: v ≥ 0, with derivatives.
        active: which inequalities hold the solution back.
    """

    equality_multipliers: Equalities
    inequality_multipliers: Inequalities
    active: Active


def kkt(
    problem: Problem,
    solution: Points,
    *params: Tensor,
    on_failure: str = "warn",
    tolerance: float | None = None,
) -> KKTSolution:
    """Differentiate a solution of min f(x; θ) s.t. h(x; θ) = 0, g(x; θ) ≤ 0, whoever found it.

    The four steps of the report (J. Chiu, *Applications of the Implicit Function Theorem*, 2021,
    section 3.1): a solution is given; the KKT conditions are the system of equations, in x and
    the multipliers u and v, which are computed here; the certificate checks the conditions; and
    :func:`savi.implicit.root`'s theorem gives the derivative of x, u and v.

    Beyond what the theorem asks for (a solution, smoothness, a nonsingular Jacobian), a strict
    minimum asks for feasibility and for positive curvature of the Lagrangian along the active
    constraints, and a derivative for *strict complementarity*: an active constraint with a
    multiplier of 0 gives way under a change of θ in one direction, and not in the other.

    Args:
        problem: f, h and g.
        solution: x from any solver, [B, n].
        params: θ, as in :func:`savi.implicit.root`; what the functions close over counts too.
        on_failure: as in :func:`savi.implicit.root`.
        tolerance: how close to its boundary an inequality counts as touched and how far outside x
            may be, relative to x (see :func:`savi.implicit.multipliers.multipliers`); and below
            which a multiplier counts as 0, relative to the force that moves x by its own size.
            None means ε^0.4: 5e-7 in float64, 2e-3 in float32. Raise it for a solution that is
            less accurate.

    Raises:
        InputError: for a wrong shape or type, a tolerance that is not above 0, or an unknown
            policy.
        ImplicitGradientError: under ``raise``, if an example breaks a condition.

    >>> theta = torch.tensor([[0.8, -0.3]], requires_grad=True)  # to be projected on x ≥ 0
    >>> projection = Problem(
    ...     lambda x, theta: 0.5 * (x - theta).square().sum(-1), inequalities=lambda x, theta: -x
    ... )
    >>> solution = kkt(projection, theta.clamp_min(0.0), theta)
    >>> solution.value.sum().backward()
    >>> theta.grad
    tensor([[1., 0.]])
    """
    policy = OnFailure.named(on_failure, POLICIES)
    if tolerance is not None and not tolerance > 0:
        raise InputError(f"tolerance is {tolerance}: set it above 0")
    require_tensors(solution, params)
    x = solution.detach()
    near = torch.finfo(x.dtype).eps ** 0.4 if tolerance is None else tolerance
    found = multipliers(problem, x, params, near)
    n, m = x.shape[-1], found.equality.shape[-1]
    linearized, units = _well_scaled(problem, x, params, found)
    hessian = units.unsqueeze(-1) * linearized.matrix[:, :n, :n]
    curvature, flat = reduced_curvature(hessian, linearized.matrix[:, n:, :n])
    # What a force must be compared with: that of moving x by its own size.
    scale = torch.linalg.matrix_norm(hessian).unsqueeze(-1) * found.size
    weak = (found.touching & (found.force <= near * scale)).any(dim=-1)
    infeasible = ~(found.violation <= near)
    certificate = certify(linearized, Constraints(weak, infeasible, curvature, flat))
    value = attached(linearized, certificate, policy)
    return KKTSolution(
        value=value[:, :n],
        certificate=certificate,
        equality_multipliers=units * value[:, n : n + m],
        inequality_multipliers=units * value[:, n + m :],
        active=found.active,
    )


#: A Hessian of a size between this and its reciprocal needs no other units for the objective.
_LEAST = 1e-4


def _well_scaled(
    problem: Problem, x: Points, params: tuple[Tensor, ...], found: Multipliers
) -> tuple[Linearized, Float[Tensor, "B 1"]]:
    """The KKT conditions, and the units of the objective, which are 1 unless H is far from that."""
    n, ones = x.shape[-1], torch.ones_like(x[:, :1])
    linearized = _linearized(problem, x, params, found, ones)
    size = torch.linalg.matrix_norm(linearized.matrix[:, :n, :n]).unsqueeze(-1)
    ordinary = (size > _LEAST) & (size < 1.0 / _LEAST)
    units = torch.where(ordinary | ~(size > 0) | ~torch.isfinite(size), ones, size)
    if torch.equal(units, ones):
        return linearized, ones
    return _linearized(problem, x, params, found, units), units


def _linearized(
    problem: Problem, x: Tensor, params: tuple[Tensor, ...], found: Multipliers, units: Tensor
) -> Linearized:
    """The KKT conditions in x, u and v with the objective in units of ``units``.

    Whoever multiplies the objective by 1e8 multiplies u and v as well, which should not make the
    Jacobian look nearly singular.
    """
    n, m = x.shape[-1], found.equality.shape[-1]
    in_units = torch.cat(
        [torch.ones_like(x), torch.zeros_like(found.equality), (~found.active).to(x)], dim=-1
    )
    scale = torch.where(in_units > 0, 1.0 / units, torch.ones_like(in_units))

    def equations(y: Rows, *params: Tensor) -> Rows:
        u, v = units * y[:, n : n + m], units * y[:, n + m :]
        return scale * problem.kkt_equations(y[:, :n], u, v, found.active, *params)

    y = torch.cat([x, found.equality / units, found.inequality / units], dim=-1)
    return Linearized.at(System.of(equations, y, params), y)
