"""The inner objective: one value per example, with its derivatives in λ.

A plain callable ``y [B, P] -> [B]`` is enough: autograd supplies the rest. A structured problem
subclasses :class:`InnerObjective` and overrides what it knows better, usually ``curvature``.

Example b's value may depend on y only through row b. Then the gradient of the *sum* over the batch
holds every example's own gradient, and the Hessian is block-diagonal with a P×P block per example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from savi.errors import InputError
from savi.linear.base import SymmetricOperator
from savi.linear.dense import solve_cholesky
from savi.registry import Registry

ObjectiveFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Linearization:
    """The equations F(λ) = 0 of a solution at a point, and the adjoint of their Jacobian.

    Here F = ∇J, whose Jacobian is the Hessian H = ∇²J, with products by autograd. A constrained
    problem has other equations and other adjoints.

    Attributes:
        point: λ, shape [B, P].
        residual: F(λ) with its graph, shape [B, P].
        degenerate: shape [B], where the solution has a kink, so that no derivative exists although
            F has one; None where that cannot be.
        closed: the blocks H in closed form, where that is known.
    """

    point: Float[Tensor, "B P"]
    residual: Float[Tensor, "B P"]
    degenerate: Bool[Tensor, " B"] | None = None
    closed: Callable[[], Tensor] | None = None

    def operator(self, curvature: Callable[[], Tensor] | None = None) -> SymmetricOperator:
        """The symmetric matrices that ``adjoint`` asks ``solve`` to solve with: here H.

        Args:
            curvature: positive definite blocks close to H, for a preconditioner.
        """
        return SymmetricOperator(self.hessian_vector_product, self.hessian, curvature)

    def adjoint(
        self, v: Float[Tensor, "B P"], solve: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "B P"]:
        """(∂F/∂λ)⁻ᵀ v by one solve with :meth:`operator`: here H⁻¹v."""
        return solve(v)

    def hessian_vector_product(
        self, v: Float[Tensor, "B P"], create_graph: bool = False
    ) -> Float[Tensor, "B P"]:
        """H v for every example at once (H is symmetric, so vᵀH serves)."""
        if not self.residual.requires_grad:
            return torch.zeros_like(v)
        (product,) = torch.autograd.grad(
            self.residual,
            self.point,
            v,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
        return torch.zeros_like(v) if product is None else product

    def hessian(self) -> Float[Tensor, "B P P"]:
        """All P×P blocks, without a graph."""
        return self.by_products() if self.closed is None else self.closed()

    def by_products(self, create_graph: bool = False) -> Float[Tensor, "B P P"]:
        """All P×P blocks by P products with one-hot vectors, symmetrised."""
        one_hots = torch.eye(self.point.shape[-1], dtype=self.point.dtype, device=self.point.device)
        columns = [
            self.hessian_vector_product(e.expand_as(self.point), create_graph) for e in one_hots
        ]
        hessian = torch.stack(columns, dim=-1)
        return 0.5 * (hessian + hessian.mT)


class InnerObjective(ABC):
    """J: [B, P] -> [B], with the derivatives that optimisers and gradient backends ask for."""

    #: True when ``gradient`` needs no autograd unless it is asked for a graph.
    closed_gradient: bool = False

    #: True when ``exact_curvature`` is cheaper than P Hessian-vector products.
    closed_hessian: bool = False

    #: True when J is redrawn at every step, so that it has no stationary point.
    stochastic: bool = False

    #: True when ``curvature`` is a Gauss–Newton matrix: positive definite, and cheap enough to
    #: precondition iterative solves with the exact Hessian.
    gauss_newton: bool = False

    #: True when not every λ is feasible, so that ``project`` is not the identity.
    constrained: bool = False

    #: True when the problem itself depends on λ0 (a proximal term, a trust region): so does λ*.
    anchored: bool = False

    #: True when λ describes a distribution, so that there is a ``natural_gradient``.
    has_fisher: bool = False

    @abstractmethod
    def __call__(self, y: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """J(y), one value per example (nats when J is a negative ELBO)."""

    def at_step(self, step: int) -> InnerObjective:
        """The objective of inner step ``step``; differs between steps only if stochastic."""
        return self

    def rows(self, index: Int[Tensor, " R"]) -> InnerObjective | None:
        """The same problem for some of the examples, or None where it cannot be cut.

        The inner loop drops converged examples with it.
        """
        return None

    def value(self, y: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """J(y) without a graph."""
        with torch.no_grad():
            return self(y)

    def gradient(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B P"]]:
        """J(y), detached, and ∇J(y); the gradient keeps its graph if ``create_graph``.

        With a graph, the gradient is connected to y's own; without, y is treated as a constant.

        Raises:
            InputError: when J does not return one floating-point value per example.
        """
        with torch.enable_grad():
            # A copy, because J may close over y itself (an anchor, a hypernetwork of λ0): ∇J is
            # the derivative through J's argument alone.
            y = y.clone() if create_graph else y.detach()
            if not y.requires_grad:
                y.requires_grad_()
            value = self(y)
            require_one_value_per_example(value, y)
            if not value.requires_grad:
                return value, torch.zeros_like(y)
            (gradient,) = torch.autograd.grad(
                value.sum(), y, create_graph=create_graph, allow_unused=True
            )
        return value.detach(), torch.zeros_like(y) if gradient is None else gradient

    def natural_gradient(
        self, y: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        """F(y)⁻¹ g, differentiable, with F the Fisher matrix of the distribution that λ describes.

        Only where ``has_fisher``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no Fisher matrix")

    def evaluated(self, y: Float[Tensor, "B P"]) -> None:  # noqa: B027  (most count nothing)
        """Called after a compiled evaluation at y, which cannot keep counts of its cost itself."""

    def project(
        self, y: Float[Tensor, "B P"], metric: Float[Tensor, "B P"] | None = None
    ) -> Float[Tensor, "B P"]:
        """The feasible point nearest to y: y itself where nothing is constrained.

        Args:
            y: any point.
            metric: D > 0, if distances are to be Σ_i D_i δ_i² instead of Σ_i δ_i².
        """
        return y

    def residual(
        self, y: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        """What vanishes at a solution, from y and ∇J(y): without constraints the gradient."""
        return gradient

    def multiplier(
        self, y: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, " B"] | None:
        """The Lagrange multiplier of the constraint at y, detached; None without a constraint."""
        return None

    def model_step(
        self,
        matrix: Float[Tensor, "B P P"],
        gradient: Float[Tensor, "B P"],
        y: Float[Tensor, "B P"],
    ) -> tuple[Float[Tensor, "B P"], Bool[Tensor, " B"]]:
        """argmin_δ gᵀδ + ½ δᵀAδ over feasible y + δ: without constraints −A⁻¹g.

        Returns:
            δ, differentiable in A, g and y, and which A were not positive definite, where δ = 0.
        """
        return solve_cholesky(matrix, -gradient)

    def linearize(self, y: Float[Tensor, "B P"], create_graph: bool = False) -> Linearization:
        """F = ∇J at y, with a graph to y and to everything J closes over.

        Unless ``create_graph``, y is cut off from whatever it was computed from.
        """
        with torch.enable_grad():
            point = y.clone() if create_graph and y.requires_grad else y.detach().requires_grad_()
            _, residual = self.gradient(point, create_graph=True)
        closed = (lambda: self.exact_curvature(point.detach())) if self.closed_hessian else None
        return Linearization(point, residual, closed=closed)

    def curvature(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> Float[Tensor, "B P P"]:
        """The matrix that second-order optimisers use for ∇²J(y).

        By default the exact Hessian, which may be indefinite away from a minimum. A problem of
        least-squares form overrides it by Gauss–Newton (positive definite, cheaper) and sets
        ``gauss_newton``.
        """
        return self.exact_curvature(y, create_graph)

    def exact_curvature(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> Float[Tensor, "B P P"]:
        """∇²J(y) itself, whether definite or not.

        A problem that knows its Hessian in closed form overrides it, for no graph at least, and
        sets ``closed_hessian``.
        """
        with torch.enable_grad():
            hessian = self.linearize(y, create_graph).by_products(create_graph)
        return hessian if create_graph else hessian.detach()


#: By name, what makes the inner objective of a batch from a base objective J and the start λ0: a
#: class or function called as ``entry(J, λ0, **options)``.
OBJECTIVES: Registry[Callable[..., InnerObjective]] = Registry("inner.objective", supplied=2)


class AutogradObjective(InnerObjective):
    """A plain callable as an inner objective."""

    def __init__(self, function: ObjectiveFunction) -> None:
        self.function = function

    def __call__(self, y: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """The callable's values."""
        return self.function(y)


def as_objective(objective: InnerObjective | ObjectiveFunction) -> InnerObjective:
    """The objective itself, or a plain callable wrapped by autograd."""
    return objective if isinstance(objective, InnerObjective) else AutogradObjective(objective)


def require_one_value_per_example(value: object, y: Float[Tensor, "B P"]) -> None:
    """Refuse what is no value of an inner objective at y."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"the objective returned {kind}: return a floating-point tensor of shape "
            f"({y.shape[0]},), one value per example"
        )
    if value.shape != y.shape[:1]:
        raise InputError(
            f"the objective returned shape {tuple(value.shape)} for λ of shape "
            f"{tuple(y.shape)}: return one value per example, shape ({y.shape[0]},), "
            "without a sum or mean over the batch"
        )


class Choice(NamedTuple):
    """What a config calls a choice, and what to set instead of it."""

    name: str
    instead: str

    def refuse(self, owner: str, *, made: bool, reason: str, otherwise: str) -> None:
        """Refuse the choice if it was made and there is a reason against it.

        Args:
            owner: who refuses, as a config names it.
            made: whether it was made.
            reason: why not; empty if there is nothing against it.
            otherwise: what to set to keep the choice.

        Raises:
            InputError: if so, with the reason.
        """
        if made and reason:
            raise InputError(
                f"{owner} with {self.name}: {reason}, so set {self.instead} or {otherwise}"
            )


FRESH_NOISE = Choice("inner.noise 'fresh'", "inner.noise=crn")
TRUST_REGION = Choice("inner.objective 'trust_region'", "inner=proximal")
COMPILE = Choice("inner.compile", "inner.compile=false")
