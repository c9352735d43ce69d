"""The problem in JAX, and what its systems have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from benchmarks.peers.problem import DATA, Problem
from benchmarks.peers.systems.base import Answer, Settings, System

#: A solve: the weights [(W₁, b₁), …, (W, b)] and the data, arrays of JAX, to the codes [B, d].
Solve = Callable[[Any, Any], Any]


def decode(weights: Any, z: Any) -> Any:
    """μ(z) for one code or a batch."""
    import jax

    *hidden, (weight, bias) = weights
    for w, b in hidden:
        z = jax.nn.softplus(z @ w.T + b)
    return z @ weight.T + bias


def energy(weights: Any, gamma: float, z: Any, x: Any) -> Any:
    """J(z) of one example, or of each in a batch."""
    error = x - decode(weights, z)
    return (error**2).sum(-1) / (2.0 * gamma) + 0.5 * (z**2).sum(-1)


class JaxSystem(System):
    """One jitted function of weights and data: the solve, the outer loss and its gradient.

    All arrays are arguments, so that the compiler takes none for a constant.
    """

    packages: ClassVar[tuple[str, ...]] = ("jax",)

    def __init__(self, problem: Problem, settings: Settings) -> None:
        import jax
        import jax.numpy as jnp

        arrays = [jnp.asarray(weight) for weight in problem.weights]
        self.weights = list(zip(arrays[::2], arrays[1::2], strict=True))
        self.data = {name: jnp.asarray(getattr(problem, name)) for name in DATA}
        self.gamma, self.settings = problem.gamma, settings
        solve = self.solver()

        def loss(weights: Any, data: Any) -> Any:
            z = solve(weights, data)
            error = data["x"] - decode(weights, z + data["scale"] * data["noise"])
            per_example = (error**2).sum(-1) / (2.0 * self.gamma) + 0.5 * (z**2).sum(-1)
            return per_example.mean(), z

        self._gradient = jax.jit(jax.grad(loss, has_aux=True))

    @abstractmethod
    def solver(self) -> Solve:
        """The differentiable solve; called once, after the arrays are there."""

    def step(self) -> Answer:
        """Call the compiled function."""
        import jax

        gradient, value = jax.block_until_ready(self._gradient(self.weights, self.data))
        return Answer(value, jax.tree.leaves(gradient))

    def slope(self, weights: Any, z: Any, x: Any) -> Any:
        """∇J of every example."""
        import jax

        return jax.grad(lambda point: energy(weights, self.gamma, point, x).sum())(z)

    def descend(self, weights: Any, data: Any) -> Any:
        """K steps of gradient descent in a loop that keeps nothing, to zK."""
        import jax

        lr = self.settings.lr
        return jax.lax.fori_loop(
            0,
            self.settings.steps,
            lambda k, z: z - lr * self.slope(weights, z, data["x"]),
            data["start"],
        )

    def stationarity(self, weights: Any, z: Any, data: Any) -> Any:
        """What ‖∇J(z)‖ / ‖∇J(z0)‖ keeps below in the asked for fraction of the examples."""
        import jax.numpy as jnp

        start, end = (
            jnp.linalg.norm(self.slope(weights, point, data["x"]), axis=-1)
            for point in (data["start"], z)
        )
        return jnp.quantile(end / start, self.settings.fraction)
