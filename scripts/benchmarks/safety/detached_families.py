"""Families whose energy hides λ from autograd, or whose start is the solution."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.reference import Energy
from benchmarks.safety.problem import FAMILIES, Draw, Problem, each


def _copied(y: Tensor) -> Tensor:
    return torch.from_numpy(y.detach().numpy().copy())


def _listed(y: Tensor) -> Tensor:
    return torch.tensor(y.tolist(), dtype=y.dtype)


#: y to a copy of its numbers that autograd knows nothing of.
LOST: dict[str, Callable[[Tensor], Tensor]] = {
    "detach()": lambda y: y.detach(),
    ".data": lambda y: y.data,
    "numpy and back": _copied,
    "Python numbers and back": _listed,
    "no_grad": lambda y: y,
}


def _quartic(draw: Draw, size: int) -> tuple[Energy, Tensor]:
    """Σ a(½r² + ¼r⁴) with r = y − Bθ, whose minimiser is Bθ; and B."""
    a = draw.uniform(size, low=0.5, high=1.5)
    B = torch.eye(size, dtype=draw.dtype) + 0.3 * draw.normal(size, size)

    def energy(y: Tensor, theta: Tensor) -> Tensor:
        r = y - theta @ B.to(theta).mT
        return (a.to(y) * (0.5 * r.square() + 0.25 * r.pow(4))).sum(dim=-1)

    return energy, B


@FAMILIES.register("no_graph")
def no_graph(seed: int) -> list[Problem]:
    """Energies that are computed from a copy of λ, or without gradients.

    They have a minimiser with a derivative, and autograd's ∇J is missing or 0.
    """
    problems = []
    for kind, index, draw in each(seed, 14, LOST, 4):
        size = 1 + index
        energy, B = _quartic(draw, size)
        theta, w = draw.normal(size), draw.normal(1, size)

        def hidden(y: Tensor, theta: Tensor, kind: str = kind, energy: Energy = energy) -> Tensor:
            with torch.set_grad_enabled(kind != "no_grad"):
                return energy(LOST[kind](y), theta)

        init = B @ theta + draw.normal(1, size)
        answer = B.double().mT @ w[0].double()
        name = f"{kind}, P = {size}, {draw.dtype}"
        problems.append(Problem(name, hidden, theta, init, w, 0.2, 200, answer))
    return problems


def exactly(solution: Tensor, draw: Draw) -> Tensor:
    """The solution itself."""
    return solution


def one_coordinate_off(solution: Tensor, draw: Draw) -> Tensor:
    """All coordinates but one at the solution."""
    start = solution.clone()
    start[0] += 1.0
    return start


def rounding_off(solution: Tensor, draw: Draw) -> Tensor:
    """A few units in the last place away."""
    return solution * (1.0 + 4.0 * torch.finfo(draw.dtype).eps * draw.normal(len(solution)))


def warm(solution: Tensor, draw: Draw) -> Tensor:
    """Closer than the solve's tolerance would ask for."""
    return solution + 1e-4 * draw.normal(len(solution))


STARTS = {start.__name__: start for start in (exactly, one_coordinate_off, rounding_off, warm)}


@FAMILIES.register("at_rest")
def at_rest(seed: int) -> list[Problem]:
    """Solves that start at their minimiser or beside it, where a relative tolerance is no guide."""
    problems = []
    for kind, index, draw in each(seed, 15, STARTS, 5):
        size = 1 + index
        energy, B = _quartic(draw, size)
        theta, w = draw.normal(size), draw.normal(1, size)
        init = STARTS[kind](theta @ B.mT, draw)[None]
        name = f"{kind.replace('_', ' ')}, P = {size}, {draw.dtype}"
        answer = B.double().mT @ w[0].double()
        problems.append(Problem(name, energy, theta, init, w, 0.2, 100, answer))
    return problems
