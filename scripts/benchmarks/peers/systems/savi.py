"""This library."""

from __future__ import annotations

from typing import ClassVar

import torch

from benchmarks.peers.problem import Problem
from benchmarks.peers.systems.base import SYSTEMS, Answer, Settings, System, fewest_steps
from benchmarks.progress import quiet
from savi._minimize import minimize
from savi.gradients import GradientBackend, Implicit, StopGradient, Unrolled
from savi.inner import GaussNewton, GradientDescent, InnerOptimizer
from savi.inner.optimizers import OPTIMIZERS
from savi.inner.solution import Solution


class SaviSystem(System):
    """``savi.minimize`` on the batch, and the backward of the outer loss."""

    packages = ("savi",)
    backend: ClassVar[GradientBackend]
    compile: ClassVar[bool] = False
    optimizer: InnerOptimizer
    max_steps: int
    rtol: float

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.batch = problem.batch()

    def solve(self, max_steps: int) -> Solution:
        """The inner solution, attached to the graph by the backend."""
        return minimize(
            self.batch.objective(max_steps),
            self.batch.start,
            optimizer=self.optimizer,
            gradient=self.backend,
            max_steps=max_steps,
            rtol=self.rtol,
            compile=self.compile,
        )

    def step(self) -> Answer:
        with quiet():
            value = self.solve(self.max_steps).value
            gradient = torch.autograd.grad(self.batch.outer(value), self.batch.weights)
        return Answer(value.detach(), gradient)


class _Fixed(SaviSystem):
    """K steps of gradient descent."""

    part = "fixed"

    def __init__(self, problem: Problem, settings: Settings) -> None:
        super().__init__(problem, settings)
        self.optimizer = GradientDescent(lr=settings.lr)
        self.max_steps, self.rtol = settings.steps, 0.0


#: By name, with the label, the kind and the backend of each, and whether inner steps are compiled;
#: the last is the floor: no gradient through the solve.
FIXED: dict[str, tuple[str, str, GradientBackend, bool]] = {
    "savi_ift": ("savi ift", "ift", Implicit(), False),
    "savi_ift_cg": ("savi ift, cg", "ift", Implicit(solver="cg"), False),
    "savi_ift_compiled": ("savi ift, compiled", "ift", Implicit(), True),
    "savi_unrolled": ("savi unrolled", "unrolled", Unrolled(), False),
    "savi_stop": ("savi stop", "stop", StopGradient(), False),
}
for _name, (_label, _kind, _backend, _compile) in FIXED.items():
    _attributes = {"label": _label, "kind": _kind, "backend": _backend, "compile": _compile}
    SYSTEMS.register(_name)(type(_name, (_Fixed,), _attributes))


class _Converged(SaviSystem):
    """The implicit gradient of a solve by an optimiser with its defaults."""

    part, kind = "converged", "second_order"
    backend = Implicit()
    optimizer_class: ClassVar[type[InnerOptimizer]]

    def __init__(self, problem: Problem, settings: Settings) -> None:
        super().__init__(problem, settings)
        self.optimizer, self.rtol = defaults(self.optimizer_class), settings.rtol
        with quiet():
            self.max_steps = fewest_steps(
                lambda steps: float(self.solve(steps).stationarity.quantile(settings.fraction)),
                settings,
            )
        self.note = f"{self.max_steps} steps"


def defaults(optimizer: type[InnerOptimizer]) -> InnerOptimizer:
    """With its defaults; Gauss–Newton with full steps, as its defaults are made for four."""
    return GaussNewton(lr=1.0, decay=False) if optimizer is GaussNewton else optimizer()


# Those that find their step length themselves, for an objective without a Fisher matrix.
for _name, _optimizer in OPTIMIZERS.items():
    if (_optimizer.judges or not _optimizer.first_order) and not _optimizer.needs_fisher:
        SYSTEMS.register(f"savi_{_name}")(
            type(
                f"Savi_{_name}",
                (_Converged,),
                {"label": f"savi {_name}", "optimizer_class": _optimizer},
            )
        )
