"""Hypergradients of weights that are not quite trained, at saddles, and with a damping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.safety.call import CALLS, Call
from benchmarks.safety.problem import Draw, alternate
from savi.implicit import hypergradient

#: (w, h) to a loss.
Loss = Callable[[Tensor, Tensor], Tensor]

#: Solvers that form H, and those that need products with it alone; None is the default.
SOLVERS = (None, "cg", "minres", "gmres", "nystrom", "cholesky")


def _asked(
    inner: Loss, outer: Loss, w: Tensor, h: Tensor, solver: str | None, **options: Any
) -> Callable[[], list[Tensor]]:
    def ask() -> list[Tensor]:
        own, hyper = w.clone().requires_grad_(), h.clone().requires_grad_()
        given = options if solver is None else {"solver": solver, **options}
        losses = inner(own, hyper), outer(own, hyper)
        return list(hypergradient(*losses, [own], [hyper], **given).gradients)

    return ask


class Regression:
    """Σ_n link(x_nᵀw − t_n) + ½ Σ e^{h_i} w_i², judged by ½‖X'w − t'‖² on other data.

    The minimiser is found by Newton's method in float64, and its derivative from the normal
    equations of that; ``near`` puts the outer optimum close to it.
    """

    def __init__(self, draw: Draw, size: int, *, curved: bool, near: bool = False) -> None:
        self.X, self.X_val = draw.normal(3 * size, size), draw.normal(2 * size, size)
        self.h, self.curved = 0.5 * draw.normal(size), curved
        truth = draw.normal(size)
        self.t = self.X @ truth + 0.3 * draw.normal(3 * size)
        target = self.minimiser().to(draw.dtype) if near else truth
        self.t_val = self.X_val @ target + (0.02 if near else 0.5) * draw.normal(2 * size)

    def inner(self, w: Tensor, h: Tensor) -> Tensor:
        """With link(r) = ½r², or r²/2 + r⁴/4 where it is curved."""
        r = self.X.to(w) @ w - self.t.to(w)
        fit = 0.5 * r.square() + (0.25 * r.pow(4) if self.curved else 0.0)
        return fit.sum() + 0.5 * (h.exp() * w.square()).sum()

    def outer(self, w: Tensor, h: Tensor) -> Tensor:
        """The loss on other data."""
        return 0.5 * (self.X_val.to(w) @ w - self.t_val.to(w)).square().sum()

    def _curvature(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """∇_w inner and its Jacobian in closed form, in float64."""
        X, e = self.X.double(), self.h.double().exp()
        r = X @ w - self.t.double()
        first, second = (r + r**3, 1.0 + 3.0 * r**2) if self.curved else (r, torch.ones_like(r))
        return X.mT @ first + e * w, X.mT @ (second[:, None] * X) + torch.diag(e)

    def minimiser(self) -> Tensor:
        """w*, by Newton's method."""
        w = torch.linalg.lstsq(self.X.double(), self.t.double()[:, None]).solution[:, 0]
        for _ in range(100):
            gradient, H = self._curvature(w)
            w = w - torch.linalg.solve(H, gradient)
        return w

    def exact(self) -> Tensor:
        """The hypergradient, −e^h w* (H⁻¹ X'ᵀ(X'w* − t'))."""
        w, X = self.minimiser(), self.X_val.double()
        v = X.mT @ (X @ w - self.t_val.double())
        return -self.h.double().exp() * w * torch.linalg.solve(self._curvature(w)[1], v)


@CALLS.register("untrained_weights")
def untrained_weights(seed: int) -> list[Call]:
    """Weights 2 to 20 % from their optimum, with an outer optimum that is far from it or near.

    Controls: trained weights, with every solver.
    """
    calls = []
    for index in range(30):
        draw = Draw(seed, 22, index, dtype=alternate(index))
        curved, near, solver = index % 2 == 1, index % 3 == 2, SOLVERS[index % len(SOLVERS)]
        problem = Regression(draw, 1 + index % 5, curved=curved, near=near)
        optimum, direction = problem.minimiser().to(draw.dtype), draw.normal(len(problem.h))
        off = (0.0, 0.02, 0.05, 0.1, 0.2)[index % 5 if index < 25 else 0]
        w = optimum + off * optimum.norm() * direction / direction.norm()
        name = (
            f"{off:.0%} from the optimum, {'quartic' if curved else 'ridge'}"
            f"{', outer optimum near' if near else ''}, {solver}, P = {len(w)}, {draw.dtype}"
        )
        ask = _asked(problem.inner, problem.outer, w, problem.h, solver)
        calls.append(Call(name, ask, [problem.exact()], well_posed=off == 0.0))
    return calls


@CALLS.register("unseen_saddle")
def unseen_saddle(seed: int) -> list[Call]:
    """½ Σ c_i (w_i − h)² with some c_i < 0, judged by the others alone.

    Controls: no c_i < 0, with a cotangent that sees as little.
    """
    calls = []
    for index in range(24):
        draw = Draw(seed, 23, index, dtype=alternate(index // 6))
        size, solver = 2 + index % 4, SOLVERS[index % len(SOLVERS)]
        c = draw.uniform(size, low=0.5, high=5.0)
        saddle = index < 18
        if saddle:
            c[-1] *= -(10.0 ** -(index % 3))
        h = draw.uniform(1, low=0.5, high=2.0)
        w = h.expand(size).clone()

        def inner(w: Tensor, h: Tensor, c: Tensor = c) -> Tensor:
            return 0.5 * (c * (w - h).square()).sum()

        def outer(w: Tensor, h: Tensor) -> Tensor:
            return w[:-1].sum()

        kind = f"curvature {c.min():.2g}" if saddle else "a minimum"
        name = f"{kind}, {solver}, P = {size}, {draw.dtype}"
        answer = None if saddle else [torch.full((1,), size - 1.0, dtype=torch.float64)]
        calls.append(Call(name, _asked(inner, outer, w, h, solver), answer, well_posed=not saddle))
    return calls


@CALLS.register("damping")
def damping(seed: int) -> list[Call]:
    """Trained weights, with a damping of 1e-3 to 1e3 of the curvature; controls of 1e-6 of it."""
    calls = []
    for index in range(24):
        draw = Draw(seed, 24, index, dtype=alternate(index // 2))
        problem = Regression(draw, 1 + index % 4, curved=index % 2 == 1)
        _, H = problem._curvature(problem.minimiser())
        relative = 10.0 ** (index % 7 - 3) if index < 16 else 1e-6
        delta = relative * float(torch.linalg.eigvalsh(H)[0])
        solver = SOLVERS[index % len(SOLVERS)]
        w = problem.minimiser().to(draw.dtype)
        name = f"damping {relative:g} of the curvature, {solver}, P = {len(w)}, {draw.dtype}"
        ask = _asked(problem.inner, problem.outer, w, problem.h, solver, damping=delta)
        calls.append(Call(name, ask, [problem.exact()], well_posed=index >= 16))
    return calls
