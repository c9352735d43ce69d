"""JAX (Bradbury et al. 2018) without a library of optimisers: first-order solves to the end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, ClassVar

import numpy as np

from benchmarks.peers.systems.base import SYSTEMS, best_of_grid
from benchmarks.peers.systems.jax_adjoint import dense, implicit
from benchmarks.peers.systems.jax_functions import JaxSystem, Solve

#: Steps between two looks at how far a trial has come.
CHUNK = 50

#: (gradient, state, k) to the move and the next state.
Rule = Callable[[Any, Any, Any], tuple[Any, Any]]


class _FirstOrder(JaxSystem):
    """The best rule of a grid until enough examples are solved, and the theorem."""

    part, kind = "converged", "first_order"
    grid: ClassVar[tuple[Any, ...]]

    def solver(self) -> Solve:
        """The loop of the rule and the number of steps that the warm-up has found."""
        import jax

        best, steps = best_of_grid(self.grid, self._stationarities, self.settings)
        self.note = f"{self.describe(best)}, {steps} steps"

        def solve(weights: Any, data: Any) -> Any:
            step, first = self._loop(best, weights, data)
            return jax.lax.fori_loop(0, steps, step, first)[0]

        return implicit(solve, dense, self.gamma)

    @abstractmethod
    def rule(self, choice: Any) -> Rule:
        """The optimiser."""

    @abstractmethod
    def describe(self, choice: Any) -> str:
        """Its settings in words."""

    def _loop(self, choice: Any, weights: Any, data: Any) -> Any:
        """The body of a loop over (z, state), and where it begins."""
        import jax.numpy as jnp

        rule = self.rule(choice)

        def step(k: Any, carried: Any) -> Any:
            z, state = carried
            move, state = rule(self.slope(weights, z, data["x"]), state, k)
            return z + move, state

        rest = jnp.zeros_like(data["start"])
        return step, (data["start"], (rest, rest))

    def _stationarities(self, choice: Any) -> Iterator[float]:
        """After 0, 1, 2, … steps, a chunk of them at a time."""
        import jax
        import jax.numpy as jnp

        @jax.jit
        def chunk(weights: Any, data: Any, carried: Any, first: Any) -> Any:
            step, start = self._loop(choice, weights, data)

            def observed(carried: Any, k: Any) -> Any:
                return step(k, carried), self.stationarity(weights, carried[0], data)

            at = start if carried is None else carried
            return jax.lax.scan(observed, at, first + jnp.arange(CHUNK))

        carried = None
        for first in count(0, CHUNK):
            carried, values = chunk(self.weights, self.data, carried, first)
            yield from np.asarray(values)


@SYSTEMS.register("jax_adam")
class Adam(_FirstOrder):
    """Adam (Kingma and Ba 2015) with its usual decay rates."""

    label = "jax, Adam"
    grid = (0.01, 0.02, 0.05, 0.1)

    def rule(self, choice: Any) -> Rule:
        """Of that step size."""
        import jax.numpy as jnp

        def adam(gradient: Any, state: Any, k: Any) -> tuple[Any, Any]:
            m = 0.9 * state[0] + 0.1 * gradient
            v = 0.999 * state[1] + 0.001 * gradient**2
            scale = jnp.sqrt(v / (1.0 - 0.999 ** (k + 1))) + 1e-8
            return -choice * m / (1.0 - 0.9 ** (k + 1)) / scale, (m, v)

        return adam

    def describe(self, choice: Any) -> str:
        """Its step size."""
        return f"step size {choice:g}"


@SYSTEMS.register("jax_momentum")
class Momentum(_FirstOrder):
    """Heavy-ball descent, its step size in units of that of the other part."""

    label = "jax, momentum"
    grid = tuple((c, momentum) for c in (1.0, 1.5, 2.0) for momentum in (0.8, 0.9))

    def rule(self, choice: Any) -> Rule:
        """Of that step size and momentum."""
        c, momentum = choice

        def heavy_ball(gradient: Any, state: Any, k: Any) -> tuple[Any, Any]:
            move = momentum * state[0] - c * self.settings.lr * gradient
            return move, (move, state[1])

        return heavy_ball

    def describe(self, choice: Any) -> str:
        """Its step size and momentum."""
        c, momentum = choice
        return f"step size {c * self.settings.lr:.1e}, momentum {momentum:g}"
