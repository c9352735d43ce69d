"""The inner problem within a ball around λ0."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from savi.inner.anchored import AnchoredObjective, positive_constant
from savi.inner.objective import (
    OBJECTIVES,
    AnyObjective,
    InnerObjective,
    Linearization,
    as_objective,
)
from savi.inner.sphere import SphereLinearization, minimise_on_sphere
from savi.linear.base import dot, norm
from savi.linear.dense import solve_cholesky
from savi.types import Blocks, Index, Mask, PerExample, Rows


@OBJECTIVES.register("trust_region")
class TrustRegion(AnchoredObjective):
    """min J(λ) subject to ‖λ − λ0‖ ≤ r, for every example.

    With n = λ − λ0, the KKT conditions are ∇J(λ*) + ν n = 0, ν ≥ 0 and ν (‖n‖ − r) = 0: where the
    constraint is active, λ* solves the proximal problem whose weight ρ is the multiplier ν, and it
    depends on λ0, so that an implicit gradient reaches the encoder. Where it is inactive, λ* is
    the minimiser of J alone, with its derivatives.

    Every iterate is feasible. Gradient steps are projected onto the ball; second-order optimisers
    minimise their model within it.

    Args:
        base: J, which may be a plain callable.
        anchor: λ0, with its graph.
        radius: r > 0, in the units of λ; a number, or a tensor of one value or one per example,
            which may require grad.

    Raises:
        InputError: if a radius is not above 0, or J is constrained.
    """

    constrained = True

    def __init__(
        self, base: AnyObjective, anchor: Rows, radius: float | Float[Tensor, "*batch"]
    ) -> None:
        super().__init__(as_objective(base), anchor)
        self.radius = positive_constant("radius", radius, anchor).expand(len(anchor))
        # λ − λ0 cannot tell the boundary from its neighbourhood below this.
        eps = torch.finfo(self.radius.dtype).eps
        self._rounding = 8.0 * eps * (self.radius + norm(anchor)).detach()

    def __call__(self, y: Rows) -> PerExample:
        """J: the constraint has no price inside the ball."""
        return self.base(y)

    def around(self, base: InnerObjective) -> TrustRegion:
        """The same problem around another J."""
        return TrustRegion(base, self.anchor, self.radius)

    def cut(self, base: InnerObjective, index: Index) -> TrustRegion:
        """With those rows of the anchor and the radius."""
        return TrustRegion(base, self.anchor[index], self.radius[index])

    def value(self, y: Rows) -> PerExample:
        """J(y) without a graph."""
        return self.base.value(y)

    def gradient(self, y: Rows, create_graph: bool = False) -> tuple[PerExample, Rows]:
        """J(y) and ∇J(y)."""
        return self.base.gradient(y, create_graph)

    def curvature(self, y: Rows, create_graph: bool = False) -> Blocks:
        """That of J."""
        return self.base.curvature(y, create_graph)

    def exact_curvature(self, y: Rows, create_graph: bool = False) -> Blocks:
        """That of J."""
        return self.base.exact_curvature(y, create_graph)

    def project(self, y: Rows, metric: Rows | None = None) -> Rows:
        """λ0 + min(1, r/‖n‖) n without a metric; a point within rounding of the ball stays."""
        with torch.no_grad():
            outside = norm(y - self.anchor) > self.radius + self._rounding
        if not outside.any():
            return y
        n, radius = (y - self.anchor)[outside], self.radius[outside]
        if metric is not None:
            scale = torch.diag_embed(metric[outside])
            delta, _ = minimise_on_sphere(scale, torch.zeros_like(n), n, radius)
            n = n + delta
        inward = (radius / vector_norm(n, dim=-1)).unsqueeze(-1)
        return y.index_put((outside,), self.anchor[outside] + inward * n)

    def residual(self, y: Rows, gradient: Rows) -> Rows:
        """∇J + νn: the tangential gradient where the constraint is active, elsewhere ∇J."""
        active = self.multiplier(y, gradient) > 0
        if not active.any():
            return gradient
        tangential, _, _ = self._on_sphere(y, gradient, active)
        return gradient.index_put((active,), tangential)

    def multiplier(self, y: Rows, gradient: Rows) -> PerExample:
        """ν = max(0, −∇Jᵀn / ‖n‖²) on the boundary, 0 inside; detached."""
        with torch.no_grad():
            n = y - self.anchor
            size = norm(n)
            pull = -dot(gradient, n / size.unsqueeze(-1)) / size
            active = (size >= self.radius - self._rounding) & (pull > 0)
            return torch.where(active, pull, torch.zeros_like(pull))

    def model_step(self, matrix: Blocks, gradient: Rows, y: Rows) -> tuple[Rows, Mask]:
        """The minimiser of the model in the ball: −A⁻¹g, or on the sphere if that leaves it."""
        delta, failed = solve_cholesky(matrix, -gradient)
        with torch.no_grad():
            outside = ~failed & (norm(y + delta - self.anchor) > self.radius)
        if not outside.any():
            return delta, failed
        on_sphere, not_found = minimise_on_sphere(
            matrix[outside], gradient[outside], (y - self.anchor)[outside], self.radius[outside]
        )
        failed = failed.index_put((outside,), not_found)
        return delta.index_put((outside,), on_sphere), failed

    def linearize(self, y: Rows, create_graph: bool = False) -> Linearization:
        """The KKT conditions at y, with a graph to λ0, r and everything J closes over."""
        free = self.base.linearize(y, create_graph)
        point, gradient = free.point, free.residual
        with torch.no_grad():
            multiplier = self.multiplier(point, gradient)
            active, n, half = multiplier > 0, point - self.anchor, torch.finfo(y.dtype).eps ** 0.5
            size = norm(n)
            close = size >= self.radius * (1.0 - half)
            normal = torch.where(close.unsqueeze(-1), n / size.unsqueeze(-1), torch.zeros_like(n))
            # ‖H n̂‖: what a multiplier must be compared with.
            bending = norm(free.hessian_vector_product(normal)) if close.any() else size
            pull = dot(gradient, normal).abs() / size
        with torch.enable_grad():
            tangential, outward, distance = self._on_sphere(point, gradient, active)
            conditions = tangential + outward * (distance - self.radius[active]).unsqueeze(-1)
            residual = gradient.index_put((active,), conditions)
        return SphereLinearization(
            point=point,
            residual=residual,
            closed=free.closed,
            degenerate=close & (pull <= half * (multiplier + bending)),
            free=free,
            active=active,
            normal=torch.where(active.unsqueeze(-1), normal, torch.zeros_like(normal)),
            multiplier=multiplier,
            stiffness=multiplier + bending,
        )

    def _on_sphere(
        self, y: Rows, gradient: Rows, rows: Mask
    ) -> tuple[Float[Tensor, "R P"], Float[Tensor, "R P"], Float[Tensor, " R"]]:
        """P∇J, n̂ and ‖n‖ of those rows, with their graph."""
        n, g = (y - self.anchor)[rows], gradient[rows]
        size = vector_norm(n, dim=-1)
        unit = n / size.unsqueeze(-1)
        return g - unit * dot(unit, g).unsqueeze(-1), unit, size
