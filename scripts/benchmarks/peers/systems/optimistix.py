"""Optimistix (Rader, Lyons and Kidger 2024, arXiv 2402.09983)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from benchmarks.peers.systems.base import SYSTEMS, fewest_steps
from benchmarks.peers.systems.jax import JaxSystem, Solve, decode, energy, jax, jnp
from benchmarks.systems import Lazy

optimistix, lineax = Lazy("optimistix"), Lazy("lineax")
custom_derivatives = Lazy("jax.custom_derivatives")
#: Tolerances that stop no solve: the number of steps does, which costs the batch nothing, since
#: under ``vmap`` a loop lasts until its last example is done.
ENDLESS = {"rtol": 0.0, "atol": 0.0}


class _Vmapped(JaxSystem):
    """One solve for each example under ``vmap``, and the implicit adjoint that is its default."""

    packages = ("jax", "optimistix", "lineax")

    @abstractmethod
    def one(self, weights: Any, start: Any, x: Any, steps: int) -> Any:
        """The solve of one example."""

    def solve(self, weights: Any, data: Any, steps: int) -> Any:
        """The solves of all."""
        solve = jax.vmap(lambda start, x: self.one(weights, start, x, steps))
        return solve(data["start"], data["x"])


@SYSTEMS.register("optimistix_implicit")
class FixedPoint(_Vmapped):
    """``optimistix.fixed_point`` of z − α∇J(z) by ``FixedPointIteration``."""

    label, part, kind = "optimistix, implicit", "fixed", "ift"

    def solver(self) -> Solve:
        return lambda weights, data: self.solve(weights, data, self.settings.steps)

    def one(self, weights: Any, start: Any, x: Any, steps: int) -> Any:
        def descended(z: Any, args: Any) -> Any:
            return z - self.settings.lr * self.slope(args[0], z, args[1])

        solver, limit = optimistix.FixedPointIteration(**ENDLESS), {"max_steps": steps}
        end = optimistix.fixed_point(descended, solver, start, (weights, x), **limit, throw=False)
        return end.value


class _Converged(_Vmapped):
    part, kind = "converged", "second_order"

    def solver(self) -> Solve:
        def stationarity_after(steps: int) -> float:
            def solved(weights: Any, data: Any) -> Any:
                return self.stationarity(weights, self.solve(weights, data, steps), data)

            return float(jax.jit(solved)(self.weights, self.data))

        steps = fewest_steps(stationarity_after, self.settings)
        self.note = f"{steps} steps"
        return lambda weights, data: self.solve(weights, data, steps)


class _LeastSquares(_Converged):
    """``optimistix.least_squares`` of the residuals [(x − μ(z)) / √γ, z]."""

    @abstractmethod
    def method(self) -> Any:
        """The solver."""

    def residual(self, z: Any, args: Any) -> Any:
        """Half of whose square is J(z)."""
        weights, x = args
        return jnp.concatenate([(x - decode(weights, z)) / self.gamma**0.5, z])

    def one(self, weights: Any, start: Any, x: Any, steps: int) -> Any:
        return optimistix.least_squares(
            self.residual, self.method(), start, (weights, x), max_steps=steps, throw=False
        ).value


@SYSTEMS.register("optimistix_gauss_newton")
class GaussNewton(_LeastSquares):
    """``GaussNewton`` with Cholesky of the normal equations, here faster than its default QR."""

    label = "optimistix, Gauss–Newton"

    def method(self) -> Any:
        normal = lineax.Normal(lineax.Cholesky())
        return optimistix.GaussNewton(**ENDLESS, linear_solver=normal)


@SYSTEMS.register("optimistix_levenberg_marquardt")
class LevenbergMarquardt(_LeastSquares):
    """``LevenbergMarquardt`` with its default QR, and residuals whose Jacobian is a matrix.

    It keeps the linearised residuals from step to step, with the weights in them, which ``vmap``
    would copy for every example: several times slower than with d columns.
    """

    label = "optimistix, Levenberg–Marquardt"

    def method(self) -> Any:
        return optimistix.LevenbergMarquardt(**ENDLESS)

    def residual(self, z: Any, args: Any) -> Any:
        """The same numbers, and a derivative that holds nothing but the Jacobian."""

        def is_zero(tangent: Any) -> bool:
            return isinstance(tangent, custom_derivatives.SymbolicZero)

        residual = jax.custom_jvp(super().residual)

        def derivative(primals: Any, tangents: Any) -> Any:
            z, args = primals
            value, product = jax.linearize(lambda z: super(type(self), self).residual(z, args), z)
            moved = jnp.zeros_like(value)
            if not is_zero(tangents[0]):
                moved += jax.vmap(product, out_axes=1)(jnp.eye(len(z))) @ tangents[0]
            leaves, tree = jax.tree.flatten(tangents[1], is_leaf=is_zero)
            if not all(map(is_zero, leaves)):
                dense = [jnp.zeros(t.shape, t.dtype) if is_zero(t) else t for t in leaves]
                through_args = jax.tree.unflatten(tree, dense)
                moved += jax.jvp(
                    lambda args: super(type(self), self).residual(z, args), (args,), (through_args,)
                )[1]
            return value, moved

        residual.defjvp(derivative, symbolic_zeros=True)
        return residual(z, args)


@SYSTEMS.register("optimistix_newton")
class Newton(_Converged):
    """``optimistix.root_find`` of ∇J by ``Newton``: the exact Hessian, and no safeguard."""

    label = "optimistix, Newton"

    def one(self, weights: Any, start: Any, x: Any, steps: int) -> Any:
        def slope(z: Any, args: Any) -> Any:
            return jax.grad(lambda point: energy(args[0], self.gamma, point, args[1]))(z)

        solver, limit = optimistix.Newton(**ENDLESS), {"max_steps": steps}
        return optimistix.root_find(slope, solver, start, (weights, x), **limit, throw=False).value
