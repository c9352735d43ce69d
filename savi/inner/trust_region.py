"""The inner problem within a ball around λ0."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.linalg import vector_norm

from savi.errors import InputError
from savi.inner.anchored import AnchoredObjective
from savi.inner.objective import OBJECTIVES, InnerObjective, Linearization
from savi.inner.sphere import SphereLinearization, minimise_on_sphere
from savi.linear.base import dot, norm
from savi.linear.dense import solve_cholesky


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
        base: J.
        anchor: λ0, with its graph.
        radius: r > 0, in the units of λ; a number, or a tensor of one value or one per example,
            which may require grad.

    Raises:
        InputError: if a radius is not above 0, or J is constrained.
    """

    constrained = True

    def __init__(
        self,
        base: InnerObjective,
        anchor: Float[Tensor, "B P"],
        radius: float | Float[Tensor, "*batch"],
    ) -> None:
        dtype = torch.promote_types(anchor.dtype, torch.float32)
        r = torch.as_tensor(radius, dtype=dtype, device=anchor.device)
        if r.shape not in ((), (1,), anchor.shape[:1]):
            raise InputError(
                f"inner.radius has shape {tuple(r.shape)}: set it to a number, or to one value "
                "per example"
            )
        for refused in r[~((r > 0) & torch.isfinite(r))].flatten().tolist():
            raise InputError(f"inner.radius is {refused}: a trust region needs a number above 0")
        super().__init__(base, anchor)
        self.radius = r.expand(len(anchor))
        # λ − λ0 cannot tell the boundary from its neighbourhood below this.
        self._rounding = 8.0 * torch.finfo(dtype).eps * (self.radius + norm(anchor)).detach()

    def __call__(self, y: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """J: the constraint has no price inside the ball."""
        return self.base(y)

    def around(self, base: InnerObjective) -> TrustRegion:
        """The same problem around another J."""
        return TrustRegion(base, self.anchor, self.radius)

    def cut(self, base: InnerObjective, index: Int[Tensor, " R"]) -> TrustRegion:
        """With those rows of the anchor and the radius."""
        return TrustRegion(base, self.anchor[index], self.radius[index])

    def value(self, y: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """J(y) without a graph."""
        return self.base.value(y)

    def gradient(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B P"]]:
        """J(y) and ∇J(y)."""
        return self.base.gradient(y, create_graph)

    def curvature(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> Float[Tensor, "B P P"]:
        """That of J."""
        return self.base.curvature(y, create_graph)

    def exact_curvature(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> Float[Tensor, "B P P"]:
        """That of J."""
        return self.base.exact_curvature(y, create_graph)

    def project(
        self, y: Float[Tensor, "B P"], metric: Float[Tensor, "B P"] | None = None
    ) -> Float[Tensor, "B P"]:
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

    def residual(
        self, y: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        """∇J + νn: the tangential gradient where the constraint is active, elsewhere ∇J."""
        active = self.multiplier(y, gradient) > 0
        if not active.any():
            return gradient
        tangential, _, _ = self._on_sphere(y, gradient, active)
        return gradient.index_put((active,), tangential)

    def multiplier(
        self, y: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, " B"]:
        """ν = max(0, −∇Jᵀn / ‖n‖²) on the boundary, 0 inside; detached."""
        with torch.no_grad():
            n = y - self.anchor
            size = norm(n)
            pull = -dot(gradient, n / size.unsqueeze(-1)) / size
            active = (size >= self.radius - self._rounding) & (pull > 0)
            return torch.where(active, pull, torch.zeros_like(pull))

    def model_step(
        self,
        matrix: Float[Tensor, "B P P"],
        gradient: Float[Tensor, "B P"],
        y: Float[Tensor, "B P"],
    ) -> tuple[Float[Tensor, "B P"], Bool[Tensor, " B"]]:
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

    def linearize(self, y: Float[Tensor, "B P"], create_graph: bool = False) -> Linearization:
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
        self, y: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"], rows: Bool[Tensor, " B"]
    ) -> tuple[Float[Tensor, "R P"], Float[Tensor, "R P"], Float[Tensor, " R"]]:
        """P∇J, n̂ and ‖n‖ of those rows, with their graph."""
        n, g = (y - self.anchor)[rows], gradient[rows]
        size = vector_norm(n, dim=-1)
        unit = n / size.unsqueeze(-1)
        return g - unit * dot(unit, g).unsqueeze(-1), unit, size
