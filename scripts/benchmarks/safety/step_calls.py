"""Derivatives of the steps that were taken: from a solution, and by differences of cotangents.

Their right values are those of the same steps in complex numbers, by numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import savi
from benchmarks.safety.call import CALLS, Call, complex_step
from benchmarks.safety.problem import Draw, alternate
from savi.gradients import (
    Checkpointed,
    FiniteDifference,
    GradientBackend,
    Implicit,
    Reversible,
    Truncated,
    Unrolled,
)
from savi.inner import LBFGS, Adam, GradientDescent, InnerOptimizer, LevenbergMarquardt, Momentum


class Coupled(NamedTuple):
    """J(y; θ) = Σ_i a_i (½r_i² + ¼r_i⁴) with r = M(y − Bθ), whose minimiser is Bθ."""

    a: Tensor  # [P]
    M: Tensor  # [P, P]
    B: Tensor  # [P, P]

    @classmethod
    def drawn(cls, draw: Draw, size: int, weights: Tensor | None = None) -> Coupled:
        """M and B near the identity; or, with ``weights`` a, as the identity: no coupling."""
        eye = torch.eye(size, dtype=draw.dtype)
        if weights is not None:
            return cls(weights, eye, eye)
        near = [eye + 0.3 * draw.normal(size, size) / size**0.5 for _ in range(2)]
        return cls(draw.uniform(size, low=0.5, high=1.5), *near)

    def energy(self, y: Tensor, theta: Tensor) -> Tensor:
        """J."""
        r = (y - self.solution(theta)) @ self.M.mT
        return (self.a * (0.5 * r.square() + 0.25 * r.pow(4))).sum(dim=-1)

    def solution(self, theta: Tensor) -> Tensor:
        """The minimiser."""
        return self.B @ theta

    def slope(self, y: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """∇J of a batch, by numpy."""
        a, M, B = (tensor.double().numpy() for tensor in self)
        r = (y - B @ theta) @ M.T
        return (a * (r + r**3)) @ M

    def end(
        self, start: Tensor, optimizer: InnerOptimizer, steps: int, theta: np.ndarray
    ) -> np.ndarray:
        """Where so many steps lead, by numpy."""
        y = start.detach().double().numpy().astype(complex)
        state = np.zeros((2, *y.shape), dtype=complex)
        for k in range(1, steps + 1):
            y, state = _step(optimizer, y, self.slope(y, theta), state, k)
        return y


def _step(
    optimizer: InnerOptimizer, y: np.ndarray, g: np.ndarray, state: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Heavy-ball momentum, or Adam with ε² under the root as well."""
    if isinstance(optimizer, GradientDescent):
        velocity = optimizer.momentum * state[0] - optimizer.lr * g
        return y + velocity, np.stack([velocity, velocity])
    assert isinstance(optimizer, Adam)
    b1, b2, eps = optimizer.beta1, optimizer.beta2, optimizer.eps
    m, v = b1 * state[0] + (1 - b1) * g, b2 * state[1] + (1 - b2) * g**2
    scale = np.sqrt(v / (1 - b2**k) + eps**2) + eps
    return y - optimizer.lr * (m / (1 - b1**k)) / scale, np.stack([m, v])


def _asked(
    problem: Coupled, theta: Tensor, start: Tensor, w: Tensor, optimizer: InnerOptimizer,
    backend: GradientBackend, steps: int, rtol: float = 0.0,
) -> Callable[[], list[Tensor]]:  # fmt: skip
    """The call: (d Σ wᵀλK / dθ) of a batch."""

    def ask() -> list[Tensor]:
        own = theta.clone().requires_grad_()
        solution = savi.minimize(
            lambda y: problem.energy(y, own),
            start,
            optimizer=optimizer,
            gradient=backend,
            max_steps=steps,
            rtol=rtol,
        )
        gradient = torch.autograd.grad(
            (w * solution.value).sum(), own, allow_unused=True, materialize_grads=True
        )
        return list(gradient)

    return ask


THROUGH_STEPS: list[GradientBackend] = [
    Unrolled(), Checkpointed(), FiniteDifference(), Reversible(), Truncated(40),
]  # fmt: skip


@CALLS.register("started_at_the_solution")
def started_at_the_solution(seed: int) -> list[Call]:
    """Batches of which all, half or one start at their minimiser; controls that start elsewhere.

    The derivative is that of K gradient steps or, by the theorem and by many steps of
    Levenberg–Marquardt, that of the solution. Steps that divide by the gradient have none there.
    """
    calls = []
    combinations = [
        *product(THROUGH_STEPS, [Momentum(0.1, 0.6)]),
        *product([Unrolled(), Checkpointed(), FiniteDifference()], [GradientDescent(0.15)]),
        *product([Implicit(), Implicit("cg"), Unrolled()], [LevenbergMarquardt()]),
        *product([Unrolled(), Checkpointed(), Truncated(5)], [Adam(0.1)]),
        (Unrolled(), LBFGS()),
    ]
    for kind, (backend, optimizer) in enumerate(combinations):
        for resting in (2 + kind % 3, 1, 0):
            draw = Draw(seed, 20, kind, resting, dtype=alternate(kind + kind // 2))
            calls.append(_started(draw, backend, optimizer, 1 + kind % 4, 2 + kind % 3, resting))
    # Without an example at rest, one of steps that divide is none of this family's controls.
    return [call for call in calls if call is not None]


def _started(
    draw: Draw, backend: GradientBackend, optimizer: InnerOptimizer, size: int, batch: int,
    resting: int,
) -> Call | None:  # fmt: skip
    problem, theta = Coupled.drawn(draw, size), draw.normal(size)
    start, w = problem.solution(theta) + 0.5 * draw.normal(batch, size), draw.normal(batch, size)
    start[:resting] = problem.solution(theta)
    solving, steps = isinstance(optimizer, LevenbergMarquardt), 25
    answer: list[Tensor] | None = None
    if solving:
        answer = [problem.B.double().mT @ w.double().sum(dim=0)]
    elif isinstance(optimizer, GradientDescent):
        answer = [complex_step(lambda t: problem.end(start, optimizer, steps, t), theta, w)]
    elif not resting:
        return None
    name = (
        f"{resting} of {batch} at the solution, {backend.name} of {optimizer.name}, P = {size}, "
        f"{draw.dtype}"
    )
    rtol = 1e-5 if solving else 0.0
    ask = _asked(problem, theta, start, w, optimizer, backend, 40 if solving else steps, rtol)
    return Call(name, ask, answer, well_posed=not resting)


@CALLS.register("hardly_seen_coordinate")
def hardly_seen_coordinate(seed: int) -> list[Call]:
    """Differences in float32 of steps of Adam that are as long where J has a weight of 1e-7.

    Controls: weights between ½ and 2, and steps that are as short as the weight is small.
    """
    calls = []
    for kind, weight in enumerate((0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1.0)):
        for index, size in enumerate((2, 3, 6)):
            draw = Draw(seed, 21, kind, index, dtype=torch.float32)
            weights = draw.uniform(size, low=0.5, high=2.0)
            weights[index % size] *= weight
            for optimizer in (Adam(0.05 + 0.02 * index), Momentum(0.2, 0.5)):
                hazard = weight < 1.0 and isinstance(optimizer, Adam)
                if hazard or index < 2:
                    calls.append(_differences(draw, weights, optimizer, hazard, f"{weight:g}"))
    return calls


def _differences(
    draw: Draw, weights: Tensor, optimizer: InnerOptimizer, hazard: bool, told: str
) -> Call:
    size, steps = len(weights), 8 + 4 * (len(weights) % 3)
    problem, theta = Coupled.drawn(draw, size, weights), draw.normal(size)
    # Near enough for the steps to shrink: elsewhere those of Adam do not depend on θ.
    start, w = theta + draw.uniform(3, size, low=0.1, high=0.4), draw.normal(3, size)
    answer = complex_step(lambda t: problem.end(start, optimizer, steps, t), theta, w)
    name = f"a weight of {told}, {steps} steps of {optimizer.name}, P = {size}"
    ask = _asked(problem, theta, start, w, optimizer, FiniteDifference(), steps)
    return Call(name, ask, [answer], well_posed=not hazard)
