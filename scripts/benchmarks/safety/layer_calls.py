"""Solutions from elsewhere that are none, or have no derivative; and sparsemax at a tie."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.safety.call import CALLS, Call
from benchmarks.safety.problem import Draw, alternate
from savi.implicit import Problem, kkt, root, sparsemax


def _asked(
    solve: Callable[[Tensor], Tensor], theta: Tensor, w: Tensor
) -> Callable[[], list[Tensor]]:
    """(d solve/dθ)ᵀw."""

    def ask() -> list[Tensor]:
        own = theta.clone().requires_grad_()
        return list(torch.autograd.grad((solve(own) * w).sum(), own))

    return ask


@CALLS.register("given_root")
def given_root(seed: int) -> list[Call]:
    """Points that are off the solution of x + ax³ = Bθ, singular equations, and kinks in θ.

    Controls: the solution itself, to rounding.
    """
    calls = []
    for index, off in enumerate((1e-3, 1e-2, 3e-2, 0.1, 0.3) * 2 + (0.0,) * 10):
        draw = Draw(seed, 33, index, dtype=alternate(index // 5))
        calls.append(_off_the_root(draw, 1 + index % 4, off))
    for index in range(10):
        draw = Draw(seed, 34, index, dtype=alternate(index // 2))
        size = 1 + index % 3
        theta, w = draw.uniform(1, size, low=0.5, high=2.0), draw.normal(1, size)
        if index % 2:
            name, x = f"a double root, P = {size}, {draw.dtype}", theta.clone()

            def solve(t: Tensor, x: Tensor = x) -> Tensor:
                return root(lambda x, t: (x - t).square(), x, t).value
        else:
            theta[0, 0] = 0.0
            name, x = f"a kink of θ, P = {size}, {draw.dtype}", theta.clone()

            def solve(t: Tensor, x: Tensor = x) -> Tensor:
                return root(lambda x, t: x + x**3 - t.relu() - t.relu() ** 3, x, t).value

        calls.append(Call(name, _asked(solve, theta, w), None))
    return calls


def _off_the_root(draw: Draw, size: int, off: float) -> Call:
    a, theta = draw.uniform(size, low=0.2, high=1.0), draw.normal(size)
    direction, shift = draw.normal(3, size), draw.normal(3, size)
    # Of one sign, so that nothing cancels.
    B, w = draw.uniform(size, size), draw.uniform(3, size, low=0.5, high=1.5)
    # Three examples that share θ, each with another shift of the right-hand side.
    target, x = (shift + theta @ B.mT).double(), torch.zeros(3, size, dtype=torch.float64)
    for _ in range(100):
        x = x - (x + a.double() * x**3 - target) / (1.0 + 3.0 * a.double() * x**2)
    answer = ((w.double() / (1.0 + 3.0 * a.double() * x**2)) @ B.double()).sum(dim=0)
    given = (x + off * x.norm() * direction.double() / direction.norm()).to(draw.dtype)

    def solve(t: Tensor) -> Tensor:
        return root(lambda x, t: x + a * x**3 - shift - t @ B.mT, given, t).value

    name = f"{off:g} off the root, P = {size}, {draw.dtype}"
    return Call(name, _asked(solve, theta, w), [answer], well_posed=off == 0.0)


@CALLS.register("given_optimum")
def given_optimum(seed: int) -> list[Call]:
    """½‖x − θ‖² + ¼Σx⁴ over x ≥ 0, at points that are off, outside, or only just held back.

    Controls: the optimum.
    """
    calls = []
    for index in range(20):
        draw = Draw(seed, 35, index, dtype=alternate(index // 4))
        size = 2 + index % 3
        theta, w = draw.uniform(1, size, low=0.5, high=2.0), draw.normal(1, size)
        theta[0, 0] *= -1.0
        kind = ("just held back", "off", "outside", "moved along the constraint")[index % 4]
        given = _optimum(theta)
        answer: list[Tensor] | None = [(theta > 0) * w.double() / (1.0 + 3.0 * given.square())]
        if index >= 12:
            kind = "the optimum"
        elif kind == "just held back":
            theta[0, 0], answer = 0.0, None
        elif kind == "off":
            given[0, 1] *= 1.5
        elif kind == "outside":
            # No solution, whatever its derivative would be.
            given[0, 0], answer = theta.double()[0, 0], None
        else:
            given[0, 1:] = given[0, 1:].flip(-1) * 1.3

        def solve(t: Tensor, given: Tensor = given) -> Tensor:
            return kkt(_QUARTIC, given.to(t.dtype), t).value

        name = f"{kind}, P = {size}, {draw.dtype}"
        ask = _asked(solve, theta, w)
        calls.append(Call(name, ask, answer, well_posed=kind == "the optimum"))
    return calls


_QUARTIC = Problem(
    lambda x, t: (0.5 * (x - t).square() + 0.25 * x.pow(4)).sum(dim=-1),
    inequalities=lambda x, t: -x,
)


def _optimum(theta: Tensor) -> Tensor:
    """The x of x + x³ = θ where θ > 0, by Newton's method in float64; 0 elsewhere."""
    positive = theta.double().clamp_min(0.0)
    x = positive.clone()
    for _ in range(100):
        x = x - (x + x**3 - positive) / (1.0 + 3.0 * x**2)
    return x


@CALLS.register("sparsemax_ties")
def sparsemax_ties(seed: int) -> list[Call]:
    """Utilities that equal the threshold, where the projection bends; controls away from it."""
    calls = []
    for index in range(16):
        draw = Draw(seed, 36, index, dtype=alternate(index))
        size, tied = 3 + index % 4, index < 8
        # In quarters, so that the threshold, which is below 0, and the tie are exact.
        support = 2 + index % 2
        theta = torch.full((1, size), -3.0, dtype=draw.dtype)
        theta[0, :support] = 0.25 * draw.uniform(support).round()
        threshold = (float(theta[0, :support].sum()) - 1.0) / support
        theta = theta + 0.25 * (index % 3) if not tied else theta
        if tied:
            theta[0, support] = threshold
        w = draw.normal(1, size)
        held = w.double()[0, :support]
        exact = torch.zeros(1, size, dtype=torch.float64)
        exact[0, :support] = held - held.mean()
        kind = "a tie" if tied else "no tie"
        name = f"{kind} at {threshold:.3g}, {support} of {size}, {draw.dtype}"
        answer = None if tied else [exact]
        calls.append(Call(name, _asked(sparsemax, theta, w), answer, well_posed=not tied))
    return calls
