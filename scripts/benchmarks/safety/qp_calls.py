"""Quadratic programs in awkward units, made from their solutions, and contradictory ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.safety.call import CALLS, Call
from benchmarks.safety.problem import Draw
from savi.implicit import QPLayer

Array = np.ndarray


class Program(NamedTuple):
    """min ½xᵀQx + qᵀx s.t. Ax = b, Gx ≤ h, by numpy; ``held``: the rows of G that hold x."""

    Q: Array
    q: Array
    A: Array
    b: Array
    G: Array
    h: Array
    held: Array
    x: Array
    w: Array  # the cotangent of x

    @classmethod
    def boxed(
        cls, draw: Draw, Q: Array, free: Array, A: Array | None = None, force: float = 1.0
    ) -> Program:
        """With a solution x of which the coordinates ``free`` are inside of −1 ≤ x ≤ 1.

        The others are at a bound, which holds them by a multiplier of about ``force``: q is what
        the KKT conditions then ask for.
        """
        n = len(Q)
        side = draw.signs(n).double().numpy()
        x = np.where(free, 0.8 * draw.uniform(n, low=-1.0).double().numpy(), side)
        G, h = np.concatenate([np.eye(n), -np.eye(n)]), np.ones(2 * n)
        held = np.concatenate([~free & (side > 0), ~free & (side < 0)])
        z = np.where(held, force * draw.uniform(2 * n, low=0.5, high=2.0).double().numpy(), 0.0)
        A = np.zeros((0, n)) if A is None else A
        y = draw.normal(len(A)).double().numpy()
        q = -(Q @ x + A.T @ y + G.T @ z)
        return cls(Q, q, A, A @ x, G, h, held, x, draw.normal(n).double().numpy())

    def derivatives(self) -> tuple[Array, Array]:
        """(dx/dq)ᵀw and (dx/dh)ᵀw, by a least-norm solve of the KKT system of the held rows."""
        rows = np.concatenate([self.A, self.G[self.held]])
        n, m = len(self.Q), len(rows)
        # In units of Q and its reciprocal, so that the rank is plain.
        unit = np.abs(self.Q).max()
        K = np.block([[self.Q / unit, rows.T], [rows, np.zeros((m, m))]])
        u = np.linalg.pinv(K, rcond=1e-11) @ np.concatenate([self.w, np.zeros(m)])
        in_h = np.zeros(len(self.h))
        in_h[self.held] = u[n + len(self.A) :]
        return -u[:n] / unit, in_h

    def asked(self, dtype: torch.dtype = torch.float64) -> Callable[[], list[Tensor]]:
        """x, and wᵀx differentiated in q and in h where that is not 0."""

        def ask() -> list[Tensor]:
            tensors = (torch.from_numpy(array).to(dtype) for array in self[:6])
            Q, q, A, b, G, h = (tensor.requires_grad_() for tensor in tensors)
            constraints = (A, b) if len(self.A) else (None, None)
            x = QPLayer()(Q, q, *constraints, G, h).value[0]
            w = torch.from_numpy(self.w).to(dtype)
            gradients = torch.autograd.grad((x * w).sum(), [q, h])
            parts = zip(gradients, self._moved(), strict=True)
            return [x.detach(), *(gradient for gradient, moved in parts if moved)]

        return ask

    def answer(self) -> list[Tensor]:
        """The right parts."""
        parts = zip(self.derivatives(), self._moved(), strict=True)
        kept = [part for part, moved in parts if moved]
        return [torch.from_numpy(part.copy()) for part in (self.x, *kept)]

    def _moved(self) -> tuple[bool, bool]:
        """Whether q and h move the solution at all."""
        rows = np.concatenate([self.A, self.G[self.held]])
        # The lowest NumPy that is allowed knows no rank of no rows.
        free = len(self.x) - (np.linalg.matrix_rank(rows) if len(rows) else 0)
        return bool(free), bool(self.held.any())

    def call(self, name: str, *, well_posed: bool, dtype: torch.dtype = torch.float64) -> Call:
        """The call about it."""
        return Call(f"{name}, n = {len(self.x)}", self.asked(dtype), self.answer(), well_posed)


def _free(draw: Draw, n: int, count: int) -> Array:
    """So many of n, at random."""
    return (draw.uniform(n).argsort().argsort() < count).numpy()


@CALLS.register("programs_in_awkward_units")
def awkward_units(seed: int) -> list[Call]:
    """Curvature along one direction or few, at any scale; controls in moderate units."""
    calls = []
    for index, exponent in enumerate(range(-8, 11, 2)):
        draw, n, scale = Draw(seed, 28, index), 2 + index % 4, 10.0**exponent
        ones = scale * np.ones((n, n))
        program = Program.boxed(draw, ones, _free(draw, n, 1))
        calls.append(program.call(f"1e{exponent} · 11ᵀ", well_posed=False))
    for index in range(10):
        draw, n = Draw(seed, 29, index), 4 + 2 * (index % 4)
        unit, rows = (1.0, 16.0, 255.0)[index % 3], 2 + index % 3
        X = np.round(unit * draw.uniform(rows, n).numpy(), 2)
        program = Program.boxed(draw, X.T @ X, _free(draw, n, rows - index % 2))
        name = f"XᵀX of {rows} rows of pixels up to {unit:g}"
        calls.append(program.call(name, well_posed=False))
    for index, exponent in enumerate((-10, -5, 5, 8, 10)):
        draw, n = Draw(seed, 30, index), 2 + index % 3
        free = np.arange(n) == 0
        Q = np.diag(np.where(free, 10.0**exponent, 0.0))
        program = Program.boxed(draw, Q, free)
        calls.append(program.call(f"diag(1e{exponent}, 0)", well_posed=False))
    return [*calls, *_moderate(seed)]


def _moderate(seed: int) -> list[Call]:
    calls = []
    for index in range(10):
        draw, n = Draw(seed, 31, index), 2 + index % 5
        L = draw.normal(n, n).numpy()
        program = Program.boxed(draw, L @ L.T + np.eye(n), _free(draw, n, 1 + index % n))
        dtype = torch.float32 if index % 2 else torch.float64
        calls.append(program.call(f"moderate, {dtype}", well_posed=True, dtype=dtype))
    return calls


@CALLS.register("dependent_constraints")
def dependent_constraints(seed: int) -> list[Call]:
    """Equalities and inequalities that contradict each other; controls that repeat each other.

    A repeated equality leaves x and its derivatives in q and h as they are.
    """
    calls = []
    for index in range(10):
        draw, n = Draw(seed, 32, index), 3 + index % 3
        unit = 10.0 ** (index % 5 - 2)
        rows = draw.normal(1 + index % 2, n).numpy()
        mixed = draw.normal(2, len(rows)).numpy() @ rows
        A = unit * np.concatenate([rows, mixed])
        L = draw.normal(n, n).numpy()
        free = _free(draw, n, n - index % 2)
        program = Program.boxed(draw, L @ L.T + np.eye(n), free, A)
        calls.append(program.call(f"repeated equalities, {unit:g}", well_posed=True))
        calls.append(_contradiction(program, index, unit))
    return calls


def _contradiction(program: Program, index: int, unit: float) -> Call:
    """The same with a last equality, or an inequality, that the others rule out."""
    miss = (1.0, 0.1, 1e-3)[index % 3]
    if index % 2:
        b = program.b.copy()
        b[-1] += miss * (abs(b[-1]) + unit)
        spoiled, name = program._replace(b=b), "equalities"
    else:
        G = np.concatenate([program.G, -program.G[:1]])
        h = np.concatenate([program.h, -program.h[:1] * (1.0 + miss)])
        held = np.append(program.held, False)
        spoiled, name = program._replace(G=G, h=h, held=held), "bounds"
    return Call(f"{name} that contradict by {miss:g}, {unit:g}", spoiled.asked(), None)
