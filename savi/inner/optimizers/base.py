"""The interface of an inner optimiser: a pure step from iterate to iterate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from savi.errors import InputError
from savi.inner.objective import FRESH_NOISE, TRUST_REGION, InnerObjective
from savi.registry import Registry


class Point(NamedTuple):
    """An iterate with what is known there."""

    y: Float[Tensor, "B P"]
    value: Float[Tensor, " B"]
    gradient: Float[Tensor, "B P"]


class InnerOptimizer(ABC):
    """A rule y_{k+1} = step(y_k, state_k), written with differentiable tensor operations only.

    Every operation acts on each example by itself: no dot product, norm or decision is shared
    by the batch. The same step serves the plain solve and the unrolled graph. The state is a
    tree of tensors with one row per example.

    An optimiser that ``judges`` proposes trials: each costs one evaluation of J and ∇J, which is
    also that of the next step wherever the trial is taken.
    """

    name: ClassVar[str]

    #: True when a step asks the objective for no derivative of J but the gradient in ``point``.
    first_order: ClassVar[bool] = False

    #: True when the optimiser has a :meth:`fixed_point` map.
    has_fixed_point: ClassVar[bool] = False

    #: True when a step is a trial that :meth:`judge` may turn down.
    judges: ClassVar[bool] = False

    #: True when a step asks the objective for its natural gradient.
    needs_fisher: ClassVar[bool] = False

    #: Why it refuses an objective that is redrawn at every step, if it does.
    refuses_fresh_noise: ClassVar[str] = ""

    #: Why it refuses a constrained objective, if it does.
    refuses_constraints: ClassVar[str] = ""

    def check(self, *, stochastic: bool, constrained: bool, has_fisher: bool) -> None:
        """Refuse an objective that the optimiser cannot minimise, before any work is done.

        Args:
            stochastic: whether the objective is redrawn at every step.
            constrained: whether it is constrained.
            has_fisher: whether it has a natural gradient.

        Raises:
            InputError: for one that it cannot, with the reason.
        """
        owner = f"inner.optimizer '{self.name}'"
        other = "inner.optimizer=levenberg_marquardt"
        if self.needs_fisher and not has_fisher:
            raise InputError(
                f"{owner} with an objective whose λ describes no distribution (a plain function, "
                "or posterior 'laplace' or 'point_mass'), and so has no Fisher matrix: set "
                f"{other}, or posterior=diagonal_gaussian or posterior=full_gaussian"
            )
        for choice, made, reason in (
            (FRESH_NOISE, stochastic, self.refuses_fresh_noise),
            (TRUST_REGION, constrained, self.refuses_constraints),
        ):
            choice.refuse(owner, made=made, reason=reason, otherwise=other)

    def init(self, y: Float[Tensor, "B P"]) -> Any:
        """The state before the first step: by default there is none."""
        return None

    @abstractmethod
    def step(
        self, objective: InnerObjective, point: Point, state: Any, create_graph: bool
    ) -> tuple[Float[Tensor, "B P"], Any]:
        """The next iterate (or trial) and state; differentiable if ``create_graph``."""

    def judge(
        self, point: Point, trial: Float[Tensor, "B P"], value: Float[Tensor, " B"], state: Any
    ) -> tuple[Bool[Tensor, " B"], Any]:
        """Which trials are taken, and the state after the verdict; called without a graph.

        Args:
            point: where the step began, detached.
            trial: what it proposed.
            value: J at the trial.
            state: as :meth:`step` returned it.
        """
        raise NotImplementedError(f"inner.optimizer '{self.name}' takes every step")

    def fixed_point(self, objective: InnerObjective, point: Point) -> Float[Tensor, "B P"]:
        """T(y), differentiable: a full step as a map whose fixed points are the solutions."""
        raise NotImplementedError(f"inner.optimizer '{self.name}' has no fixed-point map")

    def stalled(self, state: Any, y: Tensor, proposal: Tensor) -> Bool[Tensor, " B"]:
        """Which examples can make no further progress: by default, those that did not move."""
        return (proposal.detach() == y.detach()).all(dim=-1)


OPTIMIZERS: Registry[type[InnerOptimizer]] = Registry("inner.optimizer", base=InnerOptimizer)


class CurvatureOptimizer(InnerOptimizer):
    """An optimiser whose step is at heart a Newton step."""

    has_fixed_point: ClassVar[bool] = True

    def fixed_point(self, objective: InnerObjective, point: Point) -> Float[Tensor, "B P"]:
        """The full step y − C(y)⁻¹ ∇J(y) (its feasible counterpart), without damping or acceptance.

        An example whose C is not positive definite stays where it is.
        """
        matrix = self.matrix(objective, point.y, create_graph=True)
        delta, _ = objective.model_step(matrix, point.gradient, point.y)
        return point.y + delta

    def matrix(
        self, objective: InnerObjective, y: Float[Tensor, "B P"], create_graph: bool
    ) -> Float[Tensor, "B P P"]:
        """C(y): by default the objective's curvature."""
        return objective.curvature(y, create_graph)


def require_positive(owner: str, **values: float) -> None:
    """Refuse step sizes and the like that are not finite and above 0."""
    for name, value in values.items():
        if not 0.0 < value < float("inf"):
            raise InputError(f"{owner}: {name} is {value}, but it must be a number above 0")
