"""The systems under test: this library, higher, TorchDEQ and TorchOpt.

higher: Grefenstette et al. 2019, arXiv 1910.01727. TorchDEQ: Geng and Kolter 2023, arXiv
2310.18605. TorchOpt: Ren et al. 2023, arXiv 2211.06934.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.reference import Row, Vector
from benchmarks.safety.problem import Problem, descend, slope
from benchmarks.systems import Lazy, TestedSystem
from savi._minimize import minimize
from savi.gradients import GradientBackend, Implicit, Unrolled
from savi.implicit.reporter import SmoothnessNote
from savi.inner import GradientDescent, LevenbergMarquardt
from savi.registry import Registry

higher, torchdeq, torchopt = Lazy("higher"), Lazy("torchdeq"), Lazy("torchopt")
torchopt_implicit = Lazy("torchopt.diff.implicit")

SYSTEMS: Registry[type[System]] = Registry("system")


class NotExpressible(Exception):
    """The system has no way to state this problem."""


class Answer(NamedTuple):
    """What a system answers: where its solve ended, and (dλ*/dθ)ᵀ w."""

    value: Row
    gradient: Vector


class System(TestedSystem, ABC):
    """A way to solve an inner problem and to differentiate its solution, at default settings.

    All take the same gradient steps with the same stopping rule; only the derivative differs.
    """

    asks: ClassVar[str] = "implicit"  # (the derivative of λ*), or "steps" (that of the K steps)
    #: Warnings about a kind of objective, wherever the solve ends: no word about an answer.
    notes: ClassVar[tuple[type[Warning], ...]] = ()
    any_solve: ClassVar[bool] = True  # or gradient steps alone

    def answer(self, problem: Problem) -> Answer:
        """Solve ``problem`` and differentiate.

        Raises:
            NotExpressible: if there is no way to state it.
        """
        if problem.newton and not self.any_solve:
            raise NotExpressible("the solve is not a sequence of gradient steps")
        theta = problem.theta.clone().requires_grad_()
        return pulled_back(self.solve(problem, theta), theta, problem)

    @abstractmethod
    def solve(self, problem: Problem, theta: Vector) -> Row:
        """λK, attached to θ by the library."""


def pulled_back(value: Tensor, theta: Tensor, problem: Problem) -> Answer:
    """λK and (dλK/dθ)ᵀ w by autograd; 0 where autograd sees no way from θ to λK."""
    if not value.requires_grad:
        return Answer(value, torch.zeros_like(theta))
    (gradient,) = torch.autograd.grad(
        value, theta, problem.cotangent, allow_unused=True, materialize_grads=True
    )
    return Answer(value.detach(), gradient)


class _Savi(System):
    """``savi.minimize`` with one of its gradient backends."""

    packages = ("savi",)
    notes = (SmoothnessNote,)
    backend: ClassVar[GradientBackend]

    def solve(self, problem: Problem, theta: Vector) -> Row:
        return minimize(
            lambda y: problem.energy(y, theta),
            problem.init,
            optimizer=LevenbergMarquardt() if problem.newton else GradientDescent(lr=problem.lr),
            gradient=self.backend,
            max_steps=problem.max_steps,
            rtol=problem.rtol,
        ).value


class InnerModule(nn.Module):
    """y as a parameter, J(y; θ) as the loss."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.y = nn.Parameter(problem.init.clone())
        self.energy = problem.energy

    def forward(self, theta: Tensor) -> Tensor:
        """J."""
        return self.energy(self.y, theta).sum()


def unroll(problem: Problem, theta: Tensor, module: Any, step: Callable[[Tensor], Any]) -> Row:
    """λ after at most K calls of ``step``, with the problem's stopping rule."""
    tolerance = problem.rtol * slope(problem, problem.init, theta.detach()).norm()
    for _ in range(problem.max_steps):
        if bool(slope(problem, module.y.detach(), theta.detach()).norm() <= tolerance):
            break
        step(module(theta))
    return module.y


@SYSTEMS.register("higher_unrolled")
class InnerLoop(System):
    """``higher.innerloop_ctx`` around ``torch.optim.SGD``."""

    packages, asks, any_solve = ("higher",), "steps", False

    def solve(self, problem: Problem, theta: Vector) -> Row:
        module = InnerModule(problem)
        optimiser = torch.optim.SGD(module.parameters(), lr=problem.lr)
        with higher.innerloop_ctx(module, optimiser) as (patched, differentiable):
            return unroll(problem, theta, patched, differentiable.step)


class _FixedPoint(System):
    """λ* as the fixed point of y − α∇J(y), by ``torchdeq.get_deq``.

    The forward solve is gradient descent by its fixed-point iteration, with the problem's K and
    stopping rule; everything about the backward is left at its default.
    """

    packages, any_solve = ("torchdeq",), False
    options: ClassVar[dict[str, Any]]

    def solve(self, problem: Problem, theta: Vector) -> Row:
        start = float(slope(problem, problem.init, theta.detach()).norm())
        tolerance = problem.lr * problem.rtol * start
        deq = torchdeq.get_deq(f_max_iter=problem.max_steps, f_tol=tolerance, **self.options)

        def step(y: Tensor) -> Tensor:
            return y - problem.lr * slope(problem, y, theta, create_graph=True)

        values, _ = deq(step, problem.init.clone())
        return values[-1]


class _CustomRoot(System):
    """``torchopt.diff.implicit.custom_root`` around a descent, with one of its linear solvers."""

    packages = ("torchopt",)
    solver: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    def solve(self, problem: Problem, theta: Vector) -> Row:
        def optimality(y: Tensor, theta: Tensor) -> Tensor:
            return torch.func.grad(lambda point: problem.energy(point, theta).sum())(y)

        solver = getattr(torchopt.linear_solve, self.solver)(**self.options)

        @torchopt_implicit.custom_root(optimality, argnums=1, solve=solver)
        def descended(init: Tensor, theta: Tensor) -> Tensor:
            return descend(problem, theta).value

        return descended(problem.init, theta)


@SYSTEMS.register("torchopt_unrolled")
class MetaSGD(System):
    """``torchopt.MetaSGD``: differentiable gradient descent."""

    packages, asks, any_solve = ("torchopt",), "steps", False

    def solve(self, problem: Problem, theta: Vector) -> Row:
        module = InnerModule(problem)
        return unroll(problem, theta, module, torchopt.MetaSGD(module, lr=problem.lr).step)


def _named(name: str, base: type[System], **attributes: Any) -> None:
    """A system that differs from another in its settings alone."""
    SYSTEMS.register(name)(type(name, (base,), {"__doc__": base.__doc__, **attributes}))


_named("savi_ift", _Savi, backend=Implicit())
_named("savi_ift_cg", _Savi, backend=Implicit(solver="cg"))
_named("savi_unrolled", _Savi, backend=Unrolled(), asks="steps")
# The theorem, its adjoint found by at most 40 fixed-point iterations; and TorchDEQ's default: the
# derivative of one last step.
_named("torchdeq_implicit", _FixedPoint, options={"ift": True})
_named("torchdeq_one_step", _FixedPoint, options={})
# The default, conjugate gradients on the normal equations; conjugate gradients; LU of the dense
# matrix; the Neumann series.
_named("torchopt_normal_cg", _CustomRoot, solver="solve_normal_cg")
_named("torchopt_cg", _CustomRoot, solver="solve_cg")
_named("torchopt_inverse", _CustomRoot, solver="solve_inv")
_named("torchopt_neumann", _CustomRoot, solver="solve_inv", options={"ns": True})
