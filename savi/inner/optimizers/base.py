"""The interface of an inner optimiser: a pure step from iterate to iterate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeAlias

from savi.inner.objective import (
    CONSTRAINT,
    FRESH_NOISE,
    NO_DISTRIBUTION,
    InnerObjective,
    Traits,
    Words,
    refuse,
)
from savi.inner.solution import Point, Reason
from savi.registry import Registry
from savi.settings import Checked
from savi.types import Blocks, Counts, Mask, PerExample, Rows

#: The next iterate (or a trial), and the optimiser's state with it.
Step: TypeAlias = tuple[Rows, Any]

_OTHERWISE = Words("optimizer=LevenbergMarquardt()", "inner.optimizer=levenberg_marquardt")


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

    #: True when steps divide by the size of gradients: they have no derivative where ∇J = 0.
    divides: ClassVar[bool] = False

    #: True when trials move a step size of each example's own, which begins at a field ``lr``.
    adapts: ClassVar[bool] = False

    #: Why it refuses an objective that is redrawn at every step, if it does.
    refuses_fresh_noise: ClassVar[str] = ""

    #: Why it refuses a constrained objective, if it does.
    refuses_constraints: ClassVar[str] = ""

    def check(self, problem: Traits) -> None:
        """Refuse a kind of problem that the optimiser cannot minimise, before any work is done.

        Raises:
            InputError: for one that it cannot, with the reason.
        """
        refuse(
            self.words,
            _OTHERWISE,
            (
                NO_DISTRIBUTION,
                not problem.has_fisher,
                "it has no Fisher matrix" if self.needs_fisher else "",
            ),
            (FRESH_NOISE, problem.stochastic, self.refuses_fresh_noise),
            (CONSTRAINT, problem.constrained, self.refuses_constraints),
        )

    @property
    def words(self) -> Words:
        """What the optimiser is called in a refusal."""
        return Words(type(self).__name__, f"inner.optimizer '{self.name}'")

    def init(self, y: Rows) -> Any:
        """The state before the first step: by default there is none."""
        return None

    @abstractmethod
    def step(self, objective: InnerObjective, point: Point, state: Any, create_graph: bool) -> Step:
        """The next iterate (or trial) and state; differentiable if ``create_graph``."""

    def judge(self, point: Point, trial: Rows, value: PerExample, state: Any) -> tuple[Mask, Any]:
        """Which trials are taken, and the state after the verdict; called without a graph.

        Args:
            point: where the step began, detached.
            trial: what it proposed.
            value: J at the trial.
            state: as :meth:`step` returned it.
        """
        raise NotImplementedError(f"{type(self).__name__} takes every step")

    def step_sizes(self, state: Any) -> PerExample:
        """The step sizes that the examples' trials have led to."""
        raise NotImplementedError(f"{type(self).__name__} has no step size that trials move")

    def fixed_point(self, objective: InnerObjective, point: Point) -> Rows:
        """T(y), differentiable: a full step as a map whose fixed points are the solutions."""
        raise NotImplementedError(f"{type(self).__name__} has no fixed-point map")

    def stalled(self, state: Any, y: Rows, proposal: Rows) -> Counts:
        """Why an example can make no further progress, as a :class:`Reason`, and 0 where it can.

        By default those that did not move cannot.
        """
        return (proposal.detach() == y.detach()).all(dim=-1) * Reason.NO_MOVEMENT


OPTIMIZERS: Registry[type[InnerOptimizer]] = Registry("inner.optimizer", base=InnerOptimizer)


class CurvatureOptimizer(InnerOptimizer):
    """An optimiser whose step is at heart a Newton step."""

    has_fixed_point: ClassVar[bool] = True

    def fixed_point(self, objective: InnerObjective, point: Point) -> Rows:
        """The full step y − C(y)⁻¹ ∇J(y) (its feasible counterpart), without damping or acceptance.

        An example whose C is not positive definite stays where it is.
        """
        matrix = self.matrix(objective, point.y, create_graph=True)
        delta, _ = objective.model_step(matrix, point.gradient, point.y)
        return point.y + delta

    def matrix(self, objective: InnerObjective, y: Rows, create_graph: bool) -> Blocks:
        """C(y): by default the objective's curvature."""
        return objective.curvature(y, create_graph)
