"""Solves inside other transformations of torch, and under another default type.

All are about λ* of ½(λ − c)² + ¼aλ⁴, whose derivative in c is 1 / (1 + 3aλ²).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

import savi
from benchmarks.safety.call import CALLS, Call
from benchmarks.safety.problem import Draw, alternate
from savi.gradients import (
    Checkpointed,
    FiniteDifference,
    GradientBackend,
    Implicit,
    Reversible,
    Unrolled,
)
from savi.implicit import Problem as Constrained
from savi.implicit import QPLayer, hypergradient, kkt, root, softmax
from savi.inner import Momentum

BACKENDS: dict[str, GradientBackend] = {
    "ift": Implicit(),
    "ift cg": Implicit("cg"),
    "unrolled": Unrolled(),
    "checkpointed": Checkpointed(),
    "differences": FiniteDifference(),
    "reversible": Reversible(),
}


class Quartic(NamedTuple):
    """A batch of problems, and cotangents."""

    c: Tensor  # [B, P]
    a: Tensor  # [P]
    w: Tensor  # [B, P]

    @classmethod
    def drawn(cls, draw: Draw, batch: int, size: int) -> Quartic:
        """Of moderate curvature."""
        a = draw.uniform(size, low=0.1, high=0.4)
        return cls(1.5 * draw.normal(batch, size), a, draw.normal(batch, size))

    def solved(self, c: Tensor, backend: GradientBackend) -> Tensor:
        """λ* by the library."""
        return savi.minimize(
            lambda y: (0.5 * (y - c).square() + 0.25 * self.a * y.pow(4)).sum(dim=-1),
            torch.zeros_like(c),
            optimizer=Momentum(0.2, 0.3),
            gradient=backend,
            max_steps=300,
            rtol=1e-6,
        ).value

    def exact(self) -> Tensor:
        """Of wᵀλ*, w / (1 + 3aλ²), with λ from numpy's roots of aλ³ + λ − c."""
        c, a, w = (tensor.double().numpy() for tensor in self)
        roots = np.empty_like(c)
        for b, p in np.ndindex(*c.shape):
            found = np.roots([a[p], 0.0, 1.0, -c[b, p]])
            roots[b, p] = found[np.abs(found.imag).argmin()].real
        return torch.from_numpy(w / (1.0 + 3.0 * a * roots**2))


def _gradient(problem: Quartic, backend: GradientBackend, wrap: Callable[..., Tensor]) -> Tensor:
    """Σ wλ* differentiated in c, with ``wrap(solve, c)`` in place of ``solve(c)``."""
    c = problem.c.clone().requires_grad_()
    value = wrap(lambda own: problem.solved(own, backend), c)
    (value * problem.w).sum().backward()
    assert c.grad is not None
    return c.grad


def _saved_elsewhere(solve: Callable[[Tensor], Tensor], c: Tensor) -> Tensor:
    with save_on_cpu():
        return solve(c)


def _autocast(solve: Callable[[Tensor], Tensor], c: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return solve(c)


WRAPS: dict[str, Callable[..., Tensor]] = {
    "checkpoint": lambda solve, c: checkpoint(solve, c, use_reentrant=False),
    "reentrant checkpoint": lambda solve, c: checkpoint(solve, c, use_reentrant=True),
    "checkpoint in a checkpoint": lambda solve, c: checkpoint(
        lambda own: checkpoint(solve, own, use_reentrant=False), c, use_reentrant=False
    ),
    "saved tensors elsewhere": _saved_elsewhere,
    "autocast": _autocast,
}


@CALLS.register("surroundings")
def surroundings(seed: int) -> list[Call]:
    """Forward mode and torch.func; controls in checkpoints, and float32 where that is no default.

    The latter work, and so a word there is a false alarm; the former may be refused.
    """
    calls = []
    for kind, (name, backend) in enumerate(BACKENDS.items()):
        draw = Draw(seed, 25, kind, dtype=alternate(kind))
        problem = Quartic.drawn(draw, 1 + kind % 3, 1 + kind % 4)
        for mode, ask in TRANSFORMS.items():
            calls.append(
                Call(
                    f"{name} in {mode}",
                    lambda a=ask, p=problem, b=backend: [a(p, b)],
                    [problem.exact()],
                )
            )
        for wrap_name, wrap in WRAPS.items():
            calls.append(
                Call(
                    f"{name} in {wrap_name}",
                    lambda p=problem, b=backend, w=wrap: [_gradient(p, b, w)],
                    [problem.exact()],
                    well_posed=True,
                )
            )
    return [*calls, *_other_default_type(seed)]


def _forward(problem: Quartic, backend: GradientBackend) -> Tensor:
    with forward_ad.dual_level():
        out = problem.solved(forward_ad.make_dual(problem.c, problem.w), backend)
        tangent = forward_ad.unpack_dual(out).tangent
    return torch.zeros_like(problem.c) if tangent is None else tangent


def _func_jvp(problem: Quartic, backend: GradientBackend) -> Tensor:
    _, tangent = torch.func.jvp(lambda c: problem.solved(c, backend), (problem.c,), (problem.w,))
    return tangent


def _func_grad(problem: Quartic, backend: GradientBackend) -> Tensor:
    return torch.func.grad(lambda c: (problem.solved(c, backend) * problem.w).sum())(problem.c)


def _vmap(problem: Quartic, backend: GradientBackend) -> Tensor:
    c = problem.c.clone().requires_grad_()
    value = torch.func.vmap(lambda row: problem.solved(row[None], backend)[0])(c)
    (gradient,) = torch.autograd.grad((value * problem.w).sum(), c)
    return gradient


def _backward_by_vmap(problem: Quartic, backend: GradientBackend) -> Tensor:
    c = problem.c.clone().requires_grad_()
    value = problem.solved(c, backend)
    (gradient,) = torch.autograd.grad(value, c, problem.w[None], is_grads_batched=True)
    return gradient[0]


def _jacobian_by_forward_mode(problem: Quartic, backend: GradientBackend) -> Tensor:
    jacobian = torch.func.jacfwd(lambda c: problem.solved(c, backend))(problem.c)
    return (jacobian * problem.w[:, :, None, None]).sum(dim=(0, 1))


TRANSFORMS: dict[str, Callable[[Quartic, GradientBackend], Tensor]] = {
    "forward mode": _forward,
    "torch.func.jvp": _func_jvp,
    "torch.func.grad": _func_grad,
    "vmap": _vmap,
    "a batched backward": _backward_by_vmap,
    "jacfwd": _jacobian_by_forward_mode,
}


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _other_default_type(seed: int) -> list[Call]:
    """Numbers of one type where the other is the default, in every part of the library."""
    calls = []
    for kind, dtype in enumerate((torch.float32, torch.float64)):
        other = torch.float64 if dtype == torch.float32 else torch.float32
        problem = Quartic.drawn(Draw(seed, 26, kind, dtype=dtype), 2, 3)
        asked: dict[str, Callable[[Tensor], Tensor]] = {
            name: lambda c, b=backend, p=problem: p.solved(c, b)
            for name, backend in BACKENDS.items()
        }
        for name, solve in asked.items():
            calls.append(_under(other, name, solve, problem, problem.exact()))
        w, p = problem.w.double(), problem.c.double().softmax(dim=-1)
        others: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
            "root": (_cube_root, w / (3.0 * (1.0 + problem.c.double().abs()).pow(2 / 3))),
            "softmax": (lambda c: softmax(c).value, p * (w - (p * w).sum(dim=-1, keepdim=True))),
            "kkt": (_projected, w * (problem.c.double() > 0)),
            "qp": (_projected_by_qp, w * (problem.c.double() > 0)),
        }
        for name, (solve, exact) in others.items():
            calls.append(_under(other, name, solve, problem, exact))
        calls.append(_hypergradient_under(other, dtype))
    return calls


def _under(
    default: torch.dtype, name: str, solve: Callable[[Tensor], Tensor], problem: Quartic,
    exact: Tensor,
) -> Call:  # fmt: skip
    def ask() -> list[Tensor]:
        c = problem.c.clone().requires_grad_()
        with _default(default):
            (solve(c) * problem.w).sum().backward()
        assert c.grad is not None
        return [c.grad]

    name = f"{name} of {problem.c.dtype} where {default} is the default"
    return Call(name, ask, [exact], well_posed=True)


def _cube_root(c: Tensor) -> Tensor:
    """x³ = 1 + |c| with sign, so that dx/dc = ± 1 / 3x²."""
    size = (1.0 + c.detach().abs()).pow(1.0 / 3.0)
    return root(lambda x, c: x**3 - 1.0 - c * c.detach().sign(), size, c).value * c.detach().sign()


def _projected(c: Tensor) -> Tensor:
    problem = Constrained(
        lambda x, c: 0.5 * (x - c).square().sum(dim=-1), inequalities=lambda x, c: -x
    )
    return kkt(problem, c.detach().clamp_min(0.0), c).value


def _projected_by_qp(c: Tensor) -> Tensor:
    eye = torch.eye(c.shape[-1], dtype=c.dtype)
    return QPLayer()(eye, -c, G=-eye, h=torch.zeros(c.shape[-1], dtype=c.dtype)).value


def _hypergradient_under(default: torch.dtype, dtype: torch.dtype) -> Call:
    """w* = t / (1 + h), judged by its sum."""

    def ask() -> list[Tensor]:
        t = torch.tensor([1.0, 2.0, -0.5], dtype=dtype)
        w = (t / 3.0).requires_grad_()
        h = torch.tensor([2.0], dtype=dtype, requires_grad=True)
        with _default(default):
            inner = 0.5 * (w - t).square().sum() + 0.5 * h[0] * w.square().sum()
            return list(hypergradient(inner, w.sum(), [w], [h]).gradients)

    name = f"hypergradient of {dtype} where {default} is the default"
    return Call(name, ask, [torch.tensor([-2.5 / 9.0], dtype=torch.float64)], well_posed=True)
