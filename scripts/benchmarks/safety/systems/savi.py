"""This library."""

from __future__ import annotations

from typing import ClassVar

from benchmarks.safety.problem import Problem
from benchmarks.safety.systems.base import SYSTEMS, Answer, System, pulled_back
from savi._minimize import minimize
from savi.gradients import GradientBackend, Implicit, Unrolled
from savi.implicit.certificate import SmoothnessNote
from savi.inner import GradientDescent, LevenbergMarquardt


class _Savi(System):
    """``savi.minimize`` with one of its gradient backends."""

    package = "savi"
    notes = (SmoothnessNote,)
    backend: ClassVar[GradientBackend]

    def answer(self, problem: Problem) -> Answer:
        """Minimise, and send w backwards."""
        theta = problem.theta.clone().requires_grad_()
        solution = minimize(
            lambda y: problem.energy(y, theta),
            problem.init,
            optimizer=LevenbergMarquardt() if problem.newton else GradientDescent(lr=problem.lr),
            gradient=self.backend,
            max_steps=problem.max_steps,
            rtol=problem.rtol,
        )
        return pulled_back(solution.value, theta, problem)


@SYSTEMS.register("savi_ift")
class SaviImplicit(_Savi):
    """The implicit function theorem with its default solver."""

    backend = Implicit()


@SYSTEMS.register("savi_ift_cg")
class SaviConjugateGradients(_Savi):
    """The same with conjugate gradients."""

    backend = Implicit(solver="cg")


@SYSTEMS.register("savi_unrolled")
class SaviUnrolled(_Savi):
    """Backpropagation through the steps."""

    backend = Unrolled()
    asks = "steps"
