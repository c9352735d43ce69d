"""The systems under test: this library, higher, TorchDEQ and TorchOpt.

higher: Grefenstette et al. 2019, arXiv 1910.01727. TorchDEQ: Geng and Kolter 2023, arXiv
2310.18605. TorchOpt: Ren et al. 2023, arXiv 2211.06934.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.safety.problem import Problem, Row, Vector, descend, slope
from savi._minimize import minimize
from savi.gradients import GradientBackend, Implicit, Unrolled
from savi.implicit.certificate import SmoothnessNote
from savi.inner import GradientDescent, LevenbergMarquardt
from savi.registry import Registry

SYSTEMS: Registry[type[System]] = Registry("system")


class NotExpressible(Exception):
    """The system has no way to state this problem."""


class Answer(NamedTuple):
    """What a system answers: where its solve ended, and (dλ*/dθ)ᵀ w."""

    value: Row
    gradient: Vector


class System(ABC):
    """A way to solve an inner problem and to differentiate its solution, at default settings.

    All take the same gradient steps with the same stopping rule; only the derivative differs.
    """

    package: ClassVar[str]  # what must be installed
    #: "implicit" (the derivative of λ*), or "steps" (that of the K steps taken).
    asks: ClassVar[str] = "implicit"
    #: warnings about a kind of objective, wherever the solve ends: no word about an answer.
    notes: ClassVar[tuple[type[Warning], ...]] = ()

    @classmethod
    def is_installed(cls) -> bool:
        """Whether the system can be tested here."""
        return find_spec(cls.package) is not None

    @abstractmethod
    def answer(self, problem: Problem) -> Answer:
        """Solve ``problem`` and differentiate.

        Raises:
            NotExpressible: if there is no way to state it.
        """


def refuse_newton(problem: Problem) -> None:
    """For systems whose solves are gradient steps alone."""
    if problem.newton:
        raise NotExpressible("the solve is not a sequence of gradient steps")


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

    package = "savi"
    notes = (SmoothnessNote,)
    backend: ClassVar[GradientBackend]

    def answer(self, problem: Problem) -> Answer:
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


class InnerModule(nn.Module):
    """y as a parameter, J(y; θ) as the loss."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.y = nn.Parameter(problem.init.clone())
        self.energy = problem.energy

    def forward(self, theta: Tensor) -> Tensor:
        """J."""
        return self.energy(self.y, theta).sum()


def unroll(problem: Problem, theta: Tensor, module: Any, step: Callable[[Tensor], Any]) -> Answer:
    """At most K calls of ``step``, with the problem's stopping rule, and back through them."""
    tolerance = problem.rtol * slope(problem, problem.init, theta.detach()).norm()
    for _ in range(problem.max_steps):
        if bool(slope(problem, module.y.detach(), theta.detach()).norm() <= tolerance):
            break
        step(module(theta))
    return pulled_back(module.y, theta, problem)


@SYSTEMS.register("higher_unrolled")
class InnerLoop(System):
    """``higher.innerloop_ctx`` around ``torch.optim.SGD``."""

    package = "higher"
    asks = "steps"

    def answer(self, problem: Problem) -> Answer:
        import higher

        refuse_newton(problem)
        theta = problem.theta.clone().requires_grad_()
        module = InnerModule(problem)
        optimiser = torch.optim.SGD(module.parameters(), lr=problem.lr)
        with higher.innerloop_ctx(module, optimiser) as (patched, differentiable):
            return unroll(problem, theta, patched, differentiable.step)


class _FixedPoint(System):
    """λ* as the fixed point of y − α∇J(y), by ``torchdeq.get_deq``.

    The forward solve is gradient descent by its fixed-point iteration, with the problem's K and
    stopping rule; everything about the backward is left at its default.
    """

    package = "torchdeq"
    options: ClassVar[dict[str, Any]]

    def answer(self, problem: Problem) -> Answer:
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


class _CustomRoot(System):
    """``torchopt.diff.implicit.custom_root`` around a descent, with one of its linear solvers."""

    package = "torchopt"
    solver: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    def answer(self, problem: Problem) -> Answer:
        from torchopt import linear_solve
        from torchopt.diff.implicit import custom_root

        def optimality(y: Tensor, theta: Tensor) -> Tensor:
            return torch.func.grad(lambda point: problem.energy(point, theta).sum())(y)

        solver = getattr(linear_solve, self.solver)(**self.options)

        @custom_root(optimality, argnums=1, solve=solver)
        def solve(init: Tensor, theta: Tensor) -> Tensor:
            return descend(problem, theta).value

        theta = problem.theta.clone().requires_grad_()
        value = solve(problem.init, theta)
        assert isinstance(value, Tensor)
        return pulled_back(value, theta, problem)


@SYSTEMS.register("torchopt_unrolled")
class MetaSGD(System):
    """``torchopt.MetaSGD``: differentiable gradient descent."""

    package = "torchopt"
    asks = "steps"

    def answer(self, problem: Problem) -> Answer:
        import torchopt

        refuse_newton(problem)
        theta = problem.theta.clone().requires_grad_()
        module = InnerModule(problem)
        optimiser = torchopt.MetaSGD(module, lr=problem.lr)
        return unroll(problem, theta, module, optimiser.step)


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
