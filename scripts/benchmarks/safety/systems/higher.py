"""higher (Grefenstette et al. 2019, arXiv 1910.01727)."""

from __future__ import annotations

import torch

from benchmarks.safety.problem import Problem
from benchmarks.safety.systems.base import SYSTEMS, Answer, System, refuse_newton
from benchmarks.safety.systems.unrolled import InnerModule, unroll


@SYSTEMS.register("higher_unrolled")
class InnerLoop(System):
    """``higher.innerloop_ctx`` around ``torch.optim.SGD``."""

    package = "higher"
    asks = "steps"

    def answer(self, problem: Problem) -> Answer:
        """Backpropagate through the steps."""
        import higher

        refuse_newton(problem)
        theta = problem.theta.clone().requires_grad_()
        module = InnerModule(problem)
        optimiser = torch.optim.SGD(module.parameters(), lr=problem.lr)
        with higher.innerloop_ctx(module, optimiser) as (patched, differentiable):
            return unroll(problem, theta, patched, differentiable.step)
