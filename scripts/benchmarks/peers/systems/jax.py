"""JAX (Bradbury et al. 2018) without a library of optimisers, and what all its systems share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, ClassVar

import numpy as np

from benchmarks.batch import DATA
from benchmarks.peers.problem import Problem
from benchmarks.peers.systems.base import SYSTEMS, Answer, Settings, System, best_of_grid
from benchmarks.systems import Lazy

jax, jnp, sparse = Lazy("jax"), Lazy("jax.numpy"), Lazy("jax.scipy.sparse.linalg")

#: A solve: the weights [(W₁, b₁), …, (W, b)] and the data, arrays of JAX, to the codes [B, d].
Solve = Callable[[Any, Any], Any]


def decode(weights: Any, z: Any) -> Any:
    """μ(z) for one code or a batch."""
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
        gradient, value = jax.block_until_ready(self._gradient(self.weights, self.data))
        return Answer(value, jax.tree.leaves(gradient))

    def slope(self, weights: Any, z: Any, x: Any) -> Any:
        """∇J of every example."""
        return jax.grad(lambda point: energy(weights, self.gamma, point, x).sum())(z)

    def descend(self, weights: Any, data: Any) -> Any:
        """K steps of gradient descent in a loop that keeps nothing, to zK."""
        lr = self.settings.lr
        return jax.lax.fori_loop(
            0,
            self.settings.steps,
            lambda k, z: z - lr * self.slope(weights, z, data["x"]),
            data["start"],
        )

    def stationarity(self, weights: Any, z: Any, data: Any) -> Any:
        """What ‖∇J(z)‖ / ‖∇J(z0)‖ keeps below in the asked for fraction of the examples."""
        start, end = (
            jnp.linalg.norm(self.slope(weights, point, data["x"]), axis=-1)
            for point in (data["start"], z)
        )
        return jnp.quantile(end / start, self.settings.fraction)


#: (weights, γ, z, x, v) ↦ H⁻¹v of every example.
AdjointSolve = Callable[[Any, float, Any, Any, Any], Any]


def implicit(solve: Solve, adjoint: AdjointSolve, gamma: float) -> Solve:
    """``solve`` with dz*/dθ = −H⁻¹ ∂∇J/∂θ as its derivative in the weights, by ``custom_vjp``."""

    @jax.custom_vjp
    def solution(weights: Any, data: Any) -> Any:
        return solve(weights, data)

    def forward(weights: Any, data: Any) -> Any:
        z = solve(weights, data)
        return z, (weights, data, z)

    def backward(saved: Any, v: Any) -> Any:
        weights, data, z = saved
        u = adjoint(weights, gamma, z, data["x"], v)

        def slope(weights: Any) -> Any:
            return jax.grad(lambda point: energy(weights, gamma, point, data["x"]).sum())(z)

        _, pull_back = jax.vjp(slope, weights)
        return pull_back(-u)[0], jax.tree.map(jnp.zeros_like, data)

    solution.defvjp(forward, backward)
    return solution


def dense(weights: Any, gamma: float, z: Any, x: Any, v: Any) -> Any:
    """Every example's d×d Hessian, from one linearisation of ∇J and d tangents, and its LU."""
    _, product = jax.linearize(jax.grad(lambda point: energy(weights, gamma, point, x).sum()), z)
    one_hots = jnp.broadcast_to(jnp.eye(z.shape[-1])[:, None], (z.shape[-1], *z.shape))
    hessian = jax.vmap(product, out_axes=-1)(one_hots)
    return jnp.linalg.solve(hessian, v[..., None])[..., 0]


def conjugate_gradients(weights: Any, gamma: float, z: Any, x: Any, v: Any) -> Any:
    """``jax.scipy.sparse.linalg.cg`` with its defaults for each example, under ``vmap``."""

    def solve(z: Any, x: Any, v: Any) -> Any:
        _, product = jax.linearize(jax.grad(lambda point: energy(weights, gamma, point, x)), z)
        return sparse.cg(product, v)[0]

    return jax.vmap(solve)(z, x, v)


@SYSTEMS.register("jax_unrolled")
class Unrolled(JaxSystem):
    """``lax.scan`` and ``grad``."""

    label, part, kind = "jax, unrolled", "fixed", "unrolled"

    def solver(self) -> Solve:
        def solve(weights: Any, data: Any) -> Any:
            def step(z: Any, _: None) -> Any:
                return z - self.settings.lr * self.slope(weights, z, data["x"]), None

            return jax.lax.scan(step, data["start"], None, length=self.settings.steps)[0]

        return solve


@SYSTEMS.register("jax_implicit")
class Implicit(JaxSystem):
    """The theorem with dense Hessians."""

    label, part, kind = "jax, implicit", "fixed", "ift"
    adjoint: ClassVar[AdjointSolve] = staticmethod(dense)

    def solver(self) -> Solve:
        return implicit(self.descend, self.adjoint, self.gamma)


@SYSTEMS.register("jax_implicit_cg")
class ImplicitConjugateGradients(Implicit):
    """The theorem with conjugate gradients."""

    label, adjoint = "jax, implicit, CG", staticmethod(conjugate_gradients)


#: Steps between two looks at how far a trial has come.
CHUNK = 50

#: (gradient, state, k) to the move and the next state.
Rule = Callable[[Any, Any, Any], tuple[Any, Any]]


class _FirstOrder(JaxSystem):
    """The best rule of a grid until enough examples are solved, and the theorem."""

    part, kind = "converged", "first_order"
    grid: ClassVar[tuple[Any, ...]]

    def solver(self) -> Solve:
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
        rule = self.rule(choice)

        def step(k: Any, carried: Any) -> Any:
            z, state = carried
            move, state = rule(self.slope(weights, z, data["x"]), state, k)
            return z + move, state

        rest = jnp.zeros_like(data["start"])
        return step, (data["start"], (rest, rest))

    def _stationarities(self, choice: Any) -> Iterator[float]:
        """After 0, 1, 2, … steps, a chunk of them at a time."""

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
        def adam(gradient: Any, state: Any, k: Any) -> tuple[Any, Any]:
            m = 0.9 * state[0] + 0.1 * gradient
            v = 0.999 * state[1] + 0.001 * gradient**2
            scale = jnp.sqrt(v / (1.0 - 0.999 ** (k + 1))) + 1e-8
            return -choice * m / (1.0 - 0.9 ** (k + 1)) / scale, (m, v)

        return adam

    def describe(self, choice: Any) -> str:
        return f"step size {choice:g}"


@SYSTEMS.register("jax_momentum")
class Momentum(_FirstOrder):
    """Heavy-ball descent, its step size in units of that of the other part."""

    label = "jax, momentum"
    grid = tuple((c, momentum) for c in (1.0, 1.5, 2.0) for momentum in (0.8, 0.9))

    def rule(self, choice: Any) -> Rule:
        c, momentum = choice

        def heavy_ball(gradient: Any, state: Any, k: Any) -> tuple[Any, Any]:
            move = momentum * state[0] - c * self.settings.lr * gradient
            return move, (move, state[1])

        return heavy_ball

    def describe(self, choice: Any) -> str:
        c, momentum = choice
        return f"step size {c * self.settings.lr:.1e}, momentum {momentum:g}"
