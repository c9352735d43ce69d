"""TorchDEQ (Geng and Kolter 2023, arXiv 2310.18605)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from benchmarks.safety.descent import slope
from benchmarks.safety.problem import Problem
from benchmarks.safety.systems.base import SYSTEMS, Answer, System, pulled_back, refuse_newton


class _FixedPoint(System):
    """λ* as the fixed point of y − α∇J(y), by ``torchdeq.get_deq``.

    The forward solve is gradient descent by its fixed-point iteration, with the problem's K and
    stopping rule; everything about the backward is left at its default.
    """

    package = "torchdeq"
    options: ClassVar[dict[str, Any]]

    def answer(self, problem: Problem) -> Answer:
        """Iterate, and send w backwards."""
        from torchdeq import get_deq

        refuse_newton(problem)
        theta = problem.theta.clone().requires_grad_()
        start = slope(problem, problem.init, theta.detach()).norm()
        deq = get_deq(
            f_max_iter=problem.max_steps,
            f_tol=problem.lr * problem.rtol * float(start),
            **self.options,
        )

        def step(y: Tensor) -> Tensor:
            return y - problem.lr * slope(problem, y, theta, create_graph=True)

        values, _ = deq(step, problem.init.clone())
        return pulled_back(values[-1], theta, problem)


@SYSTEMS.register("torchdeq_implicit")
class ImplicitDifferentiation(_FixedPoint):
    """The theorem, its adjoint found by at most 40 fixed-point iterations."""

    options: ClassVar[dict[str, Any]] = {"ift": True}


@SYSTEMS.register("torchdeq_one_step")
class PhantomGradient(_FixedPoint):
    """Its default: the derivative of one last step."""

    options: ClassVar[dict[str, Any]] = {}
