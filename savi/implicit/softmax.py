"""Softmax as the solution of an optimisation problem, the report's first example."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from savi.implicit.kkt import KKTSolution, kkt
from savi.implicit.problem import Problem
from savi.types import Points, Rows


def entropy_problem() -> Problem:
    """The entropy-regularised argmax that softmax solves, for :func:`savi.implicit.kkt` with θ.

        min −xᵀθ − H(x)  subject to  1ᵀx = 1,   H(x) = −Σ x_i log x_i

    This is eq. 1 of the report (J. Chiu, *Applications of the Implicit Function Theorem*, 2021),
    as a minimisation and without x ≥ 0. The entropy has no value for x_i < 0 and an infinite slope
    at x_i = 0, so that every solution has x > 0: the inequality never holds x back, its multiplier
    is 0, and its rows would add nothing to the KKT conditions.
    """
    return Problem(
        objective=lambda x, theta: (x * (x.log() - theta)).sum(dim=-1),
        equalities=lambda x, theta: x.sum(dim=-1, keepdim=True) - 1.0,
    )


def softmax(theta: Points, on_failure: str = "warn") -> KKTSolution:
    """Softmax, with the derivative that the implicit function theorem gives.

    The four steps of the report: x = softmax(θ) is the solution, known in closed form; the KKT
    conditions of :func:`entropy_problem`, log x_i + 1 − θ_i + u = 0 and 1ᵀx = 1, are the system of
    equations; the certificate checks the theorem's conditions; and the theorem's derivative is
    diag(x) − xxᵀ (:func:`softmax_jacobian`). The multiplier is u = logsumexp(θ) − 1.

    For the derivative alone use ``torch.softmax``. The condition number grows with 1 / min x, so
    that the certificate speaks from a spread of about 30 nats between utilities in float64, and of
    about 12 in float32.

    Args:
        theta: the utilities, one row per example.
        on_failure: as in :func:`savi.implicit.root`.

    Raises:
        InputError: for a wrong shape or type, or an unknown policy.
        ImplicitGradientError: under ``raise``, if an example breaks a condition.
    """
    return kkt(entropy_problem(), theta.detach().softmax(dim=-1), theta, on_failure=on_failure)


def report_system(y: Rows, theta: Points) -> Rows:
    """The report's KKT system of softmax, its eq. 3, for :func:`savi.implicit.root` with θ.

        θ − log x − 1 + u1 + v = 0,   u (1ᵀx − 1) = 0,   diag(v) x = 0,   y = (x, u, v)

    The second equation is primal feasibility times its multiplier u. At a solution its derivative
    is u (1ᵀ, 0, 0), and u = 1 − logsumexp(θ): where logsumexp(θ) = 1 the Jacobian ∂F/∂y has a row
    of 0 and the theorem does not apply, though softmax has a derivative there. The plain
    1ᵀx − 1 = 0 of :func:`entropy_problem` is right everywhere.

    Args:
        y: x, u and v side by side, P = 2n + 1.
        theta: the utilities.
    """
    n = theta.shape[-1]
    x, u, v = y.split([n, 1, n], dim=-1)
    feasibility = u * (x.sum(dim=-1, keepdim=True) - 1.0)
    return torch.cat([theta - x.log() - 1.0 + u + v, feasibility, v * x], dim=-1)


def report_solution(theta: Points) -> Rows:
    """The y of :func:`report_system`: x = softmax(θ), u = 1 − logsumexp(θ) and v = 0."""
    u = 1.0 - theta.logsumexp(dim=-1, keepdim=True)
    return torch.cat([theta.softmax(dim=-1), u, torch.zeros_like(theta)], dim=-1)


def softmax_jacobian(x: Points) -> Float[Tensor, "B n n"]:
    """∂x/∂θ = diag(x) − xxᵀ in closed form."""
    return x.diag_embed() - x.unsqueeze(-1) * x.unsqueeze(-2)


def report_inverse(x: Points, u: Float[Tensor, "B 1"]) -> Float[Tensor, "B n+1 n+1"]:
    """The inverse of A = [[diag(x)⁻¹, −1], [u1ᵀ, 0]] for 1ᵀx = 1, the report's eq. 9.

        A⁻¹ = [[diag(x) − xxᵀ, x/u], [−xᵀ, 1/u]]

    A is what eq. 5 leaves of the Jacobian for v = 0. The block that matters has lost u, the others
    have not: for u = 0 there is no A⁻¹.
    """
    above = torch.cat([softmax_jacobian(x), x.unsqueeze(-1) / u.unsqueeze(-1)], dim=-1)
    below = torch.cat([-x, 1.0 / u], dim=-1)
    return torch.cat([above, below.unsqueeze(-2)], dim=-2)
