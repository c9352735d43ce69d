"""The interface of an inner optimiser: a pure step from iterate to iterate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from savi.inner.objective import (
    CONSTRAINT,
    FRESH_NOISE,
    NO_DISTRIBUTION,
    InnerObjective,
    Words,
)
from savi.registry import Registry
from savi.settings import Checked

OPTIMIZERS: Registry[type[InnerOptimizer]] = Registry("inner.optimizer")

_OTHERWISE = Words("optimizer=LevenbergMarquardt()", "inner.optimizer=levenberg_marquardt")


class Point(NamedTuple):
    """An iterate with what is known there."""

    y: Float[Tensor, "B P"]
    value: Float[Tensor, " B"]
    gradient: Float[Tensor, "B P"]


class InnerOptimizer(Checked, ABC):
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
        needs_fisher = "it has no Fisher matrix" if self.needs_fisher else ""
        for choice, made, reason in (
            (NO_DISTRIBUTION, not has_fisher, needs_fisher),
            (FRESH_NOISE, stochastic, self.refuses_fresh_noise),
            (CONSTRAINT, constrained, self.refuses_constraints),
        ):
            if made:
                choice.refuse(self.words, reason, _OTHERWISE)

    @property
    def words(self) -> Words:
        """What the optimiser is called in a refusal."""
        return Words(type(self).__name__, f"inner.optimizer '{self.name}'")

    @abstractmethod
    def init(self, y: Float[Tensor, "B P"]) -> Any:
        """The state before the first step."""

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
        raise NotImplementedError(f"{type(self).__name__} takes every step")

    def fixed_point(self, objective: InnerObjective, point: Point) -> Float[Tensor, "B P"]:
        """T(y), differentiable: a full step as a map whose fixed points are the solutions."""
        raise NotImplementedError(f"{type(self).__name__} has no fixed-point map")

    def stalled(self, state: Any, y: Tensor, proposal: Tensor) -> Bool[Tensor, " B"]:
        """Which examples can make no further progress: by default, those that did not move."""
        return (proposal.detach() == y.detach()).all(dim=-1)


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
