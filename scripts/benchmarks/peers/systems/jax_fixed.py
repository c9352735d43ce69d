"""JAX (Bradbury et al. 2018) without a library of optimisers: K steps of gradient descent."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.systems.base import SYSTEMS
from benchmarks.peers.systems.jax_adjoint import conjugate_gradients, dense, implicit
from benchmarks.peers.systems.jax_functions import JaxSystem, Solve


@SYSTEMS.register("jax_unrolled")
class Unrolled(JaxSystem):
    """``lax.scan`` and ``grad``."""

    label, part, kind = "jax, unrolled", "fixed", "unrolled"

    def solver(self) -> Solve:
        """The scan."""
        import jax

        def solve(weights: Any, data: Any) -> Any:
            def step(z: Any, _: None) -> Any:
                return z - self.settings.lr * self.slope(weights, z, data["x"]), None

            z, _ = jax.lax.scan(step, data["start"], None, length=self.settings.steps)
            return z

        return solve


@SYSTEMS.register("jax_implicit")
class Implicit(JaxSystem):
    """The theorem with dense Hessians."""

    label, part, kind = "jax, implicit", "fixed", "ift"

    def solver(self) -> Solve:
        """The loop with a derivative of its own."""
        return implicit(self.descend, dense, self.gamma)


@SYSTEMS.register("jax_implicit_cg")
class ImplicitConjugateGradients(JaxSystem):
    """The theorem with conjugate gradients."""

    label, part, kind = "jax, implicit, CG", "fixed", "ift"

    def solver(self) -> Solve:
        """The loop with a derivative of its own."""
        return implicit(self.descend, conjugate_gradients, self.gamma)
