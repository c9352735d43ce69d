"""What an inner problem of the benchmark is, how its right answer is known, and plain descent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.reference import Energy, Row, Vector, hessian, implicit_gradient, minimiser
from savi.registry import Registry

#: The family in which nothing is wrong: a word about its problems is a false alarm.
CONTROL = "well_posed"


@dataclass(frozen=True)
class Problem:
    """Find λ* = argmin_y J(y; θ) from λ0, and answer (dλ*/dθ)ᵀ w."""

    name: str  # what is special about it, with its seed
    energy: Energy = field(repr=False)  # J
    theta: Vector  # θ, shape [Q]
    init: Row  # λ0, shape [1, P]; its type is the type of the whole solve
    cotangent: Row  # w, shape [1, P]
    lr: float  # the step size of gradient descent
    max_steps: int  # K
    #: (dλ*/dθ)ᵀ w in float64, shape [Q], where λ* is the local minimiser that descent from λ0 leads
    #: to; None if there is no such minimiser or it has no derivative, so that every finite answer
    #: is wrong.
    answer: Vector | None
    rtol: float = 1e-3  # the solve stops at ‖∇J‖ ≤ rtol ‖∇J(λ0)‖
    #: solve by Newton's method, where gradient descent would take 1/κ steps. Its ``lr`` is not
    #: used.
    newton: bool = False


#: Families of problems by name: a base seed to a list of problems.
FAMILIES: Registry[Callable[[int], list[Problem]]] = Registry("family")


class Draw:
    """Random numbers of one problem, that depend on its seeds alone.

    Args:
        seeds: the base seed, and what tells the problem from its siblings.
        dtype: the type of the problem. Numbers are drawn in float64, so that the same problem in
            float32 differs by rounding.
    """

    def __init__(self, *seeds: int, dtype: torch.dtype = torch.float64) -> None:
        number = 0
        for seed in seeds:
            number = (1_000_003 * number + seed) % 2**63
        self._generator, self.dtype = torch.Generator().manual_seed(number), dtype

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        draw = torch.randn(*shape, generator=self._generator, dtype=torch.float64)
        return draw.to(self.dtype)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers between ``low`` and ``high``."""
        draw = torch.rand(*shape, generator=self._generator, dtype=torch.float64)
        return (low + (high - low) * draw).to(self.dtype)

    def signs(self, *shape: int) -> Tensor:
        """±1, each with probability ½."""
        return torch.where(self.uniform(*shape) < 0.5, -1.0, 1.0).to(self.dtype)

    def zeros(self, *shape: int) -> Tensor:
        """Nothing."""
        return torch.zeros(*shape, dtype=self.dtype)

    def rotation(self, size: int) -> Float[Tensor, "P P"]:
        """A random orthogonal matrix."""
        return torch.linalg.qr(self.normal(size, size).double())[0].to(self.dtype)


def alternate(index: int) -> torch.dtype:
    """Float32 and float64 in turns."""
    return torch.float64 if index % 2 else torch.float32


def each(
    seed: int, family: int, kinds: Iterable[str], repeats: int
) -> Iterator[tuple[str, int, Draw]]:
    """So many draws of each kind, float32 and float64 in turns."""
    for (kind, name), index in product(enumerate(kinds), range(repeats)):
        yield name, index, Draw(seed, family, kind, index, dtype=alternate(index))


class Smooth(NamedTuple):
    """An energy with parameters θ [Q] and a start λ0 [1, P]; all data are fixed numbers."""

    energy: Energy
    theta: Vector
    init: Row

    def curvature(self) -> float:
        """The largest one at λ0, at λ* and half-way: gradient descent converges up to 2 over it."""
        theta, init = self.theta.double(), self.init.double()
        solution = minimiser(self.energy, theta, init)
        points = (init, 0.5 * (init + solution), solution)
        return max(
            float(torch.linalg.eigvalsh(hessian(self.energy, y, theta)).max()) for y in points
        )

    def problem(
        self, name: str, draw: Draw, *, cotangent: Row | None = None, lr: float | None = None,
        answered: bool = True, max_steps: int = 1000, rtol: float = 1e-3, newton: bool = False,
    ) -> Problem:  # fmt: skip
        """The problem with a random w, a step size that converges and the implicit answer."""
        energy, theta, init = self
        w = draw.normal(*init.shape) if cotangent is None else cotangent
        lr = 0.8 / self.curvature() if lr is None else lr
        answer = None
        if answered:
            answer = implicit_gradient(energy, theta, minimiser(energy, theta, init), w)
        return Problem(name, energy, theta, init, w, lr, max_steps, answer, rtol, newton)


def slope(problem: Problem, y: Tensor, theta: Tensor, create_graph: bool = False) -> Tensor:
    """∇_y J; with its graph to y and θ if ``create_graph``."""
    with torch.enable_grad():
        point = y if y.requires_grad else y.detach().requires_grad_()
        value = problem.energy(point, theta).sum()
        (gradient,) = torch.autograd.grad(value, point, create_graph=create_graph)
    return gradient


class Descent(NamedTuple):
    """Where a solve ended, and after how many steps."""

    value: Row
    steps: int


def descend(problem: Problem, theta: Tensor) -> Descent:
    """At most K steps of gradient descent, or of Newton's method, without a graph.

    Stops as the problem asks for, at ‖∇J‖ ≤ rtol ‖∇J(λ0)‖: the solve that a user of a general
    library writes by hand.
    """
    theta, y = theta.detach(), problem.init.clone()
    tolerance = None
    for k in range(problem.max_steps):
        gradient = slope(problem, y, theta)
        tolerance = problem.rtol * gradient.norm() if tolerance is None else tolerance
        if bool(gradient.norm() <= tolerance):
            return Descent(y, k)
        step = problem.lr * gradient
        if problem.newton:
            curvature = hessian(problem.energy, y, theta)
            step = torch.linalg.lstsq(curvature, gradient[0]).solution[None]
        y = y - step
    return Descent(y, problem.max_steps)


def stationarity(problem: Problem, y: Tensor) -> float:
    """‖∇J(y)‖ / ‖∇J(λ0)‖, 0 where both vanish."""
    theta = problem.theta.detach()
    here = float(slope(problem, y.detach(), theta).norm())
    start = float(slope(problem, problem.init, theta).norm())
    if here == 0.0:
        return 0.0
    return here / start if start != 0.0 else float("inf")
