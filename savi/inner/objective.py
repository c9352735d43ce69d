"""The inner objective: one value per example, with its derivatives in λ.

A plain callable ``y [B, P] -> [B]`` is enough: autograd supplies the rest. A structured problem
subclasses :class:`InnerObjective` and overrides what it knows better, usually ``curvature``.

Example b's value may depend on y only through row b. Then the gradient of the *sum* over the batch
holds every example's own gradient, and the Hessian is block-diagonal with a P×P block per example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from savi.errors import CombinationError, InputError
from savi.linear.base import Rough, SymmetricOperator, irregular
from savi.linear.dense import solve_cholesky
from savi.registry import Registry
from savi.types import Blocks, Index, Mask, PerExample, Rows

ObjectiveFunction = Callable[[Tensor], Tensor]

#: What becomes an inner objective by :func:`as_objective`.
AnyObjective: TypeAlias = "InnerObjective | ObjectiveFunction"


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
        rough: H to a few digits, where that takes less time.
    """

    point: Rows
    residual: Rows
    degenerate: Mask | None = None
    closed: Callable[[], Tensor] | None = None
    rough: Callable[[], Rough | None] = lambda: None

    def operator(self, curvature: Callable[[], Tensor] | None = None) -> SymmetricOperator:
        """The symmetric matrices that ``adjoint`` asks ``solve`` to solve with: here H.

        Args:
            curvature: positive definite blocks close to H, for a preconditioner.
        """
        return SymmetricOperator(
            self.hessian_vector_product, self.hessian, curvature, lambda: self.known
        )

    @cached_property
    def known(self) -> Rough | None:
        """What ``rough`` has found; computed once."""
        return self.rough()

    def adjoint(self, v: Rows, solve: Callable[[Tensor], Tensor]) -> Rows:
        """(∂F/∂λ)⁻ᵀ v by one solve with :meth:`operator`: here H⁻¹v."""
        return solve(v)

    def pull_back(
        self, inputs: Sequence[Tensor], v: Rows, create_graph: bool = False
    ) -> tuple[Tensor | None, ...]:
        """(∂F/∂input)ᵀ v for each input; None where there is no dependence."""
        if not self.residual.requires_grad:
            return (None,) * len(inputs)
        return torch.autograd.grad(
            self.residual,
            inputs,
            v,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )

    def hessian_vector_product(self, v: Rows, create_graph: bool = False) -> Rows:
        """H v for every example at once (H is symmetric, so vᵀH serves)."""
        (product,) = self.pull_back([self.point], v, create_graph)
        return torch.zeros_like(v) if product is None else product

    def hessian(self) -> Blocks:
        """All P×P blocks, without a graph; computed once."""
        return self._hessian

    @cached_property
    def _hessian(self) -> Blocks:
        return self.by_products() if self.closed is None else self.closed()

    def by_products(self, create_graph: bool = False) -> Blocks:
        """All P×P blocks by P products with one-hot vectors, symmetrised."""
        one_hots = torch.eye(self.point.shape[-1], dtype=self.point.dtype, device=self.point.device)
        columns = [
            self.hessian_vector_product(e.expand_as(self.point), create_graph) for e in one_hots
        ]
        hessian = torch.stack(columns, dim=-1)
        return 0.5 * (hessian + hessian.mT)


class Traits:
    """What kind of problem an objective is, and what it knows of itself: flags of its class.

    Attributes:
        stochastic: J is redrawn at every step, so that it has no stationary point.
        constrained: not every λ is feasible, so that ``project`` is not the identity.
        anchored: the problem itself depends on λ0 (a proximal term, a trust region): so does λ*.
        has_fisher: λ describes a distribution, so that there is a ``natural_gradient``.
        gauss_newton: ``curvature`` is a Gauss–Newton matrix: positive definite, and cheap enough
            to precondition iterative solves with the exact Hessian.
        closed_gradient: ``gradient`` needs no autograd unless it is asked for a graph.
        closed_hessian: ``exact_curvature`` is cheaper than P Hessian-vector products.
    """

    stochastic: bool = False
    constrained: bool = False
    anchored: bool = False
    has_fisher: bool = False
    gauss_newton: bool = False
    closed_gradient: bool = False
    closed_hessian: bool = False

    def __init__(self, **flags: bool) -> None:
        vars(self).update(flags)

    def take_over(self, other: Traits) -> None:
        """Be all that another problem is, besides what this one is itself."""
        for name in Traits.__annotations__:
            setattr(self, name, getattr(self, name) or getattr(other, name))


class InnerObjective(Traits, ABC):
    """J: [B, P] -> [B], with the derivatives that optimisers and gradient backends ask for."""

    @abstractmethod
    def __call__(self, y: Rows) -> PerExample:
        """J(y), one value per example (nats when J is a negative ELBO)."""

    def at_step(self, step: int) -> InnerObjective:
        """The objective of inner step ``step``; differs between steps only if stochastic."""
        return self

    def rows(self, index: Index) -> InnerObjective | None:
        """The same problem for some of the examples, or None where it cannot be cut.

        The inner loop drops converged examples with it.
        """
        return None

    def for_one_backward(self) -> InnerObjective:
        """The same, for evaluations whose graphs are backpropagated together, once.

        What no λ changes may then be computed once, with a graph that they have in common.
        """
        return self

    def value(self, y: Rows) -> PerExample:
        """J(y) without a graph."""
        with torch.no_grad():
            return self(y)

    def gradient(self, y: Rows, create_graph: bool = False) -> tuple[PerExample, Rows]:
        """J(y), detached, and ∇J(y); the gradient keeps its graph if ``create_graph``.

        With a graph, the gradient is connected to y's own; without, y is treated as a constant.

        Raises:
            InputError: when J does not return one floating-point value per example, or loses λ.
        """
        with torch.enable_grad():
            # A copy, because J may close over y itself (an anchor, a hypernetwork of λ0): ∇J is
            # the derivative through J's argument alone.
            y = y.clone() if create_graph else y.detach()
            if not y.requires_grad:
                y.requires_grad_()
            value = self(y)
            require_one_value_per_example(value, y)
            gradient = None
            if value.requires_grad:
                (gradient,) = torch.autograd.grad(
                    value.sum(), y, create_graph=create_graph, allow_unused=True
                )
        if gradient is None:
            self._require_constant(y, value)
            gradient = torch.zeros_like(y)
        return value.detach(), gradient

    def _require_constant(self, y: Rows, value: PerExample) -> None:
        """Refuse a J that varies with y although its value has no graph to y."""
        moved = self.value(y.detach() + irregular(y))
        if not self.stochastic and not torch.equal(moved, value.detach()):
            raise InputError(
                "the objective varies with λ and has no graph to it, so that its gradient would be "
                "0: compute its value by torch's operations on λ itself, without detach(), .data, "
                "numpy, item() or torch.no_grad()"
            )

    def natural_gradient(self, y: Rows, gradient: Rows) -> Rows:
        """F(y)⁻¹ g, differentiable, with F the Fisher matrix of the distribution that λ describes.

        Only where ``has_fisher``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no Fisher matrix")

    def natural_step(self, y: Rows, gradient: Rows, length: PerExample, scale: float = 1.0) -> Rows:
        """A step of length α against the natural gradient: y − α F(y)⁻¹ g, to first order in α.

        Of a distribution that is known to have a location and a scale, the scale's part of the
        step has the length α · ``scale``.

        Raises:
            InputError: for a ``scale`` other than 1 where nothing is known of one.
        """
        if scale != 1.0:
            raise InputError(
                f"scale_lr is {scale:g}, and {type(self).__name__} does not say which part of λ is "
                "the scale of a distribution: leave scale_lr at 1"
            )
        return y - length.unsqueeze(-1) * self.natural_gradient(y, gradient)

    def evaluated(self, y: Rows) -> None:
        """Called after a compiled evaluation at y, which cannot keep counts of its cost itself."""

    def project(self, y: Rows, metric: Rows | None = None) -> Rows:
        """The feasible point nearest to y: y itself where nothing is constrained.

        Args:
            y: any point.
            metric: D > 0, if distances are to be Σ_i D_i δ_i² instead of Σ_i δ_i².
        """
        return y

    def residual(self, y: Rows, gradient: Rows) -> Rows:
        """What vanishes at a solution, from y and ∇J(y): without constraints the gradient."""
        return gradient

    def multiplier(self, y: Rows, gradient: Rows) -> PerExample | None:
        """The Lagrange multiplier of the constraint at y, detached; None without a constraint."""
        return None

    def model_step(self, matrix: Blocks, gradient: Rows, y: Rows) -> tuple[Rows, Mask]:
        """argmin_δ gᵀδ + ½ δᵀAδ over feasible y + δ: without constraints −A⁻¹g.

        Returns:
            δ, differentiable in A, g and y, and which A were not positive definite, where δ = 0.
        """
        return solve_cholesky(matrix, -gradient)

    def linearize(self, y: Rows, create_graph: bool = False) -> Linearization:
        """F = ∇J at y, with a graph to y and to everything J closes over.

        Unless ``create_graph``, y is cut off from whatever it was computed from.
        """
        with torch.enable_grad():
            point = y.clone() if create_graph and y.requires_grad else y.detach().requires_grad_()
            _, residual = self.gradient(point, create_graph=True)
        closed = (lambda: self.exact_curvature(point.detach())) if self.closed_hessian else None
        return Linearization(
            point, residual, closed=closed, rough=lambda: self.rough_curvature(point.detach())
        )

    def curvature(self, y: Rows, create_graph: bool = False) -> Blocks:
        """The matrix that second-order optimisers use for ∇²J(y).

        By default the exact Hessian, which may be indefinite away from a minimum. A problem of
        least-squares form overrides it by Gauss–Newton (positive definite, cheaper) and sets
        ``gauss_newton``.
        """
        return self.exact_curvature(y, create_graph)

    def exact_curvature(self, y: Rows, create_graph: bool = False) -> Blocks:
        """∇²J(y) itself, whether definite or not.

        A problem that knows its Hessian in closed form overrides it, for no graph at least, and
        sets ``closed_hessian``.
        """
        with torch.enable_grad():
            hessian = self.linearize(y, create_graph).by_products(create_graph)
        return hessian if create_graph else hessian.detach()

    def rough_curvature(self, y: Rows) -> Rough | None:
        """∇²J(y) to a few digits and its products, where the processor has a short format for it.

        None by default: :meth:`exact_curvature` is then asked for.
        """
        return None


#: By name, what makes the inner objective of a batch from a base objective J and the start λ0: a
#: class or function called as ``entry(J, λ0, **options)``.
OBJECTIVES: Registry[Callable[..., InnerObjective]] = Registry("inner.objective", supplied=2)


class AutogradObjective(InnerObjective):
    """A plain callable as an inner objective."""

    def __init__(self, function: ObjectiveFunction) -> None:
        self.function = function

    def __call__(self, y: Rows) -> PerExample:
        """The callable's values."""
        return self.function(y)


def as_objective(objective: AnyObjective) -> InnerObjective:
    """The objective itself, or a plain callable wrapped by autograd."""
    return objective if isinstance(objective, InnerObjective) else AutogradObjective(objective)


def require_one_value_per_example(value: object, y: Rows) -> None:
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


class Words(NamedTuple):
    """What something is called in a call of the library, and in a config."""

    call: str
    config: str


class Choice(NamedTuple):
    """A choice that an optimiser or a backend may refuse, and what a config sets instead."""

    name: Words
    instead: str


FRESH_NOISE = Choice(
    Words("an objective that is redrawn at every step", "inner.noise 'fresh'"), "inner.noise=crn"
)
CONSTRAINT = Choice(
    Words("a constrained objective", "inner.objective 'trust_region'"), "inner=proximal"
)
TRUST = Choice(
    Words("a last step that is not judged", "inner.last_step 'trusted'"),
    "inner.last_step=judged",
)
COMPILE = Choice(Words("compile=True", "inner.compile"), "inner.compile=false")
NO_DISTRIBUTION = Choice(
    Words(
        "an objective whose λ describes no distribution",
        "an objective whose λ describes no distribution (posterior 'laplace' or 'point_mass')",
    ),
    "posterior=diagonal_gaussian",
)


def refuse(owner: Words, otherwise: Words, *choices: tuple[Choice, bool, str]) -> None:
    """Refuse the first choice that was made and has a reason against it.

    Args:
        owner: who refuses.
        otherwise: what to choose in the owner's place.
        choices: each with whether it was made, and why not; empty if there is nothing against it.

    Raises:
        CombinationError: with the reason.
    """
    for (name, instead), made, reason in choices:
        if made and reason:
            raise CombinationError(
                f"{owner.call} with {name.call}: {reason}, so give {otherwise.call}",
                in_config=f"{owner.config} with {name.config}: {reason}, so set {instead} or "
                f"{otherwise.config}",
            )
