"""Implicit differentiation in JAX, written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.systems.jax_functions import Solve, energy

#: (weights, γ, z, x, v) ↦ H⁻¹v of every example.
AdjointSolve = Callable[[Any, float, Any, Any, Any], Any]


def implicit(solve: Solve, adjoint: AdjointSolve, gamma: float) -> Solve:
    """``solve`` with dz*/dθ = −H⁻¹ ∂∇J/∂θ as its derivative in the weights, by ``custom_vjp``."""
    import jax

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
        return pull_back(-u)[0], jax.tree.map(jax.numpy.zeros_like, data)

    solution.defvjp(forward, backward)
    return solution


def dense(weights: Any, gamma: float, z: Any, x: Any, v: Any) -> Any:
    """Every example's d×d Hessian, from one linearisation of ∇J and d tangents, and its LU."""
    import jax
    import jax.numpy as jnp

    _, product = jax.linearize(jax.grad(lambda point: energy(weights, gamma, point, x).sum()), z)
    one_hots = jnp.broadcast_to(jnp.eye(z.shape[-1])[:, None], (z.shape[-1], *z.shape))
    hessian = jax.vmap(product, out_axes=-1)(one_hots)
    return jnp.linalg.solve(hessian, v[..., None])[..., 0]


def conjugate_gradients(weights: Any, gamma: float, z: Any, x: Any, v: Any) -> Any:
    """``jax.scipy.sparse.linalg.cg`` with its defaults for each example, under ``vmap``."""
    import jax
    from jax.scipy.sparse.linalg import cg

    def solve(z: Any, x: Any, v: Any) -> Any:
        _, product = jax.linearize(jax.grad(lambda point: energy(weights, gamma, point, x)), z)
        return cg(product, v)[0]

    return jax.vmap(solve)(z, x, v)
