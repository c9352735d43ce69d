"""What inner problems share that keep λ near λ0."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

from jaxtyping import Float, Int
from torch import Tensor

from savi.errors import InputError
from savi.inner.objective import InnerObjective


class AnchoredObjective(InnerObjective):
    """A problem around a base objective J that depends on λ0 itself: so does its solution.

    Args:
        base: J.
        anchor: λ0, with its graph.

    Raises:
        InputError: if J is constrained, because its constraint would be lost.
    """

    anchored = True

    def __init__(self, base: InnerObjective, anchor: Float[Tensor, "B P"]) -> None:
        if base.constrained:
            raise InputError(
                f"{type(self).__name__} around a constrained objective, whose constraint would be "
                "lost: give it the unconstrained one"
            )
        self.base, self.anchor = base, anchor
        self.stochastic, self.gauss_newton = base.stochastic, base.gauss_newton
        self.closed_gradient, self.closed_hessian = base.closed_gradient, base.closed_hessian
        self.has_fisher = base.has_fisher

    @abstractmethod
    def around(self, base: InnerObjective) -> Self:
        """The same problem around another base objective."""

    @abstractmethod
    def cut(self, base: InnerObjective, index: Int[Tensor, " R"]) -> Self:
        """The same problem for some of the examples, whose base objective is given."""

    def rows(self, index: Int[Tensor, " R"]) -> InnerObjective | None:
        """The same for some of the examples."""
        base = self.base.rows(index)
        return None if base is None else self.cut(base, index)

    def natural_gradient(
        self, y: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        """In the metric of the base objective's distribution."""
        return self.base.natural_gradient(y, gradient)

    def evaluated(self, y: Float[Tensor, "B P"]) -> None:
        """Counted by J."""
        self.base.evaluated(y)

    def at_step(self, step: int) -> InnerObjective:
        """The same around the base objective of that step."""
        return self.around(self.base.at_step(step)) if self.stochastic else self
