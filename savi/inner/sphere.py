"""Minimisers of a quadratic model gᵀδ + ½ δᵀAδ, free or on a sphere, per example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from savi.inner.objective import Linearization
from savi.linear.base import SymmetricOperator, dot, norm
from savi.linear.dense import by_cholesky, plus_diagonal
from savi.types import Blocks, Mask, PerExample, Rows

#: Newton's method needs about ten steps; a block that needs more than this has failed.
MAX_STEPS = 60


def minimise_on_sphere(
    matrix: Blocks, gradient: Rows, offset: Rows, radius: PerExample
) -> tuple[Rows, Mask]:
    """argmin_δ gᵀδ + ½ δᵀAδ subject to ‖n + δ‖ = r, where ‖n − A⁻¹g‖ > r.

    The solution is δ(ν) = −(A + νI)⁻¹(g + νn) with the ν > 0 that solves the secular equation
    ‖p(ν)‖ = r for p = n + δ. Newton's method on 1/r − 1/‖p(ν)‖, which is convex and decreasing,
    climbs to ν from 0 without ever overshooting (Moré and Sorensen 1983). Its last two steps keep
    their graph: each doubles the order to which ν(A, g, n, r) is right, so that δ is
    differentiable three times.

    Args:
        matrix: A, positive definite.
        gradient: g.
        offset: n.
        radius: r.

    Returns:
        δ, and for which examples no finite ν was found, where δ is 0.
    """
    with torch.no_grad():
        multiplier = _secular_root(matrix, gradient, offset, radius)
        failed = ~torch.isfinite(multiplier)
    if failed.any():
        found = ~failed
        delta = _on_sphere(*(t[found] for t in (matrix, gradient, offset, radius, multiplier)))
        return torch.zeros_like(gradient).index_put((found,), delta), failed
    return _on_sphere(matrix, gradient, offset, radius, multiplier), failed


def _on_sphere(
    matrix: Tensor, gradient: Tensor, offset: Tensor, radius: Tensor, multiplier: Tensor
) -> Rows:
    """δ(ν) after two differentiable corrections of ν."""
    for _ in range(2):
        multiplier = multiplier + _newton_step(matrix, gradient, offset, radius, multiplier)
    delta = _shifted_solve(matrix, gradient, offset, multiplier)[0]
    # What rounding leaves of the constraint, without cancellation in δ.
    p = offset + delta
    size = vector_norm(p, dim=-1)
    return delta + p * ((radius - size) / size).unsqueeze(-1)


def _secular_root(matrix: Tensor, gradient: Tensor, offset: Tensor, radius: Tensor) -> PerExample:
    """ν to about half the digits; NaN where it was not found."""
    multiplier = torch.zeros_like(radius)
    searching = torch.ones_like(radius, dtype=torch.bool)
    digits = torch.finfo(radius.dtype).eps ** 0.5
    for _ in range(MAX_STEPS):
        step = _newton_step(matrix, gradient, offset, radius, multiplier).clamp_min(0.0)
        multiplier = torch.where(searching, multiplier + step, multiplier)
        searching = searching & (step > digits * multiplier)
        if not searching.any():
            break
    return torch.where(searching, torch.nan, multiplier)


def _newton_step(
    matrix: Tensor, gradient: Tensor, offset: Tensor, radius: Tensor, multiplier: Tensor
) -> PerExample:
    """(‖p‖ − r) / (r p̂ᵀ(A + νI)⁻¹p̂)."""
    delta, factor = _shifted_solve(matrix, gradient, offset, multiplier)
    p = offset + delta
    size = vector_norm(p, dim=-1)
    unit = p / size.unsqueeze(-1)
    return (size - radius) / (radius * dot(unit, by_cholesky(factor, unit)))


def _shifted_solve(
    matrix: Tensor, gradient: Tensor, offset: Tensor, multiplier: Tensor
) -> tuple[Rows, Blocks]:
    """δ(ν), and the Cholesky factor of A + νI."""
    factor, _ = torch.linalg.cholesky_ex(plus_diagonal(matrix, multiplier.unsqueeze(-1)))
    rhs = gradient + multiplier.unsqueeze(-1) * offset
    return -by_cholesky(factor, rhs), factor


@dataclass(frozen=True, kw_only=True)
class SphereLinearization(Linearization):
    """G(λ) = P ∇J(λ) + n̂ (‖n‖ − r) where the constraint is active, and ∇J(λ) elsewhere.

    n = λ − λ0, n̂ = n/‖n‖ and P = I − n̂n̂ᵀ. G = 0 says that ∇J is normal to the sphere and λ on
    it: the KKT conditions with the multiplier ν eliminated. At a solution, where ∇J = −νn,

        ∂G/∂λ = P (H + νI) + n̂n̂ᵀ.

    It is not symmetric, but the tangential part u_t of (∂G/∂λ)⁻ᵀ v is: it solves K u_t = P v with

        K = P (H + νI) P + κ n̂n̂ᵀ,

    positive definite if and only if λ satisfies the second-order sufficient condition, whatever
    κ > 0. The normal part follows: n̂ᵀu = n̂ᵀ(v − (H + νI) u_t).

    Attributes:
        free: the linearisation of ∇J.
        active: which examples are held back by the constraint.
        normal: n̂, 0 where the constraint is inactive.
        multiplier: ν, 0 where the constraint is inactive.
        stiffness: κ = ν + ‖H n̂‖, which keeps K as well conditioned as H + νI.
        degenerate: on the sphere with ν ≈ 0. There the solution has a kink: the constraint holds
            it back under a change of the problem in one direction, and not in the other.
    """

    free: Linearization
    active: Mask
    normal: Rows
    multiplier: PerExample
    stiffness: PerExample

    def hessian_vector_product(self, v: Rows, create_graph: bool = False) -> Rows:
        """H v, with H = ∇²J as without the constraint."""
        return self.free.hessian_vector_product(v, create_graph)

    def operator(self, curvature: Callable[[], Tensor] | None = None) -> SymmetricOperator:
        """K, preconditioned by the same with the given matrices in place of H."""
        return SymmetricOperator(
            matvec=self._product,
            dense=lambda: self._reduced(self.hessian()),
            preconditioner=None if curvature is None else lambda: self._reduced(curvature()),
        )

    def adjoint(self, v: Rows, solve: Callable[[Tensor], Tensor]) -> Rows:
        """(∂G/∂λ)⁻ᵀ v from one solve with K."""
        tangential = self._tangent(solve(self._tangential_part(v)))
        if not self.active.any():
            return tangential
        normal = dot(self.normal, v - self._shifted_product(tangential)).unsqueeze(-1)
        u = tangential + normal * self.normal
        return torch.where(self.active.unsqueeze(-1), u, tangential)

    def _tangential_part(self, v: Rows) -> Rows:
        """P v, and 0 where rounding alone is left of it: a direction of noise is none."""
        # Once more, for what cancellation leaves along n̂.
        part = self._tangent(self._tangent(v))
        noise = 4.0 * v.shape[-1] * torch.finfo(v.dtype).eps * norm(v)
        nothing = self.active & (norm(part) <= noise)
        return torch.where(nothing.unsqueeze(-1), torch.zeros_like(part), part)

    def _tangent(self, v: Rows) -> Rows:
        """P v."""
        return v - self.normal * dot(self.normal, v).unsqueeze(-1)

    def _shifted_product(self, v: Rows) -> Rows:
        """(H + νI) v."""
        return self.hessian_vector_product(v) + self.multiplier.unsqueeze(-1) * v

    def _product(self, v: Rows) -> Rows:
        """K v."""
        along = (self.stiffness * dot(self.normal, v)).unsqueeze(-1)
        return self._tangent(self._shifted_product(self._tangent(v))) + along * self.normal

    def _reduced(self, matrix: Blocks) -> Blocks:
        """P (M + νI) P + κ n̂n̂ᵀ."""
        identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        outer = self.normal.unsqueeze(-1) * self.normal.unsqueeze(-2)
        tangent = identity - outer
        shifted = matrix + self.multiplier[:, None, None] * identity
        return tangent @ shifted @ tangent + self.stiffness[:, None, None] * outer
