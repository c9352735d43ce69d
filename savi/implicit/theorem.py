"""The theorem itself: a solution x with dx = −J⁻¹ (∂F/∂θ) dθ, in both modes and to every order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from savi.errors import InputError
from savi.implicit.smoothness import kinked_operations
from savi.implicit.system import System, jacobian
from savi.inner.precision import full_precision
from savi.linear.dense import identity_unless
from savi.linear.lu import LUFactor
from savi.types import Blocks, Mask, Rows


@dataclass(frozen=True)
class Linearized:
    """F at a solution x, and its Jacobian J.

    Attributes:
        system: F.
        x: the solution, detached.
        value: F(x), detached.
        matrix: J, detached.
        factor: the LU factor of J.
        kinks: operations with a kink between x and F.
    """

    system: System
    x: Rows
    value: Rows
    matrix: Blocks
    factor: LUFactor
    kinks: tuple[str, ...]

    @classmethod
    def at(cls, system: System, x: Rows) -> Linearized:
        """Compute F and J at x."""
        value, matrix, kinks = cls.evaluated(system, x)
        return cls(system, x, value, matrix, LUFactor.of(matrix), kinks)

    @staticmethod
    def evaluated(system: System, x: Rows) -> tuple[Rows, Blocks, tuple[str, ...]]:
        """F(x) and ∂F/∂x without a graph, and the operations with a kink between them."""
        with torch.enable_grad(), full_precision(x.device.type):
            point = x.detach().requires_grad_()
            value = system.residual_at_leaves(point, [t.detach() for t in system.inputs])
            matrix = jacobian(value, point)
        return value.detach(), matrix, kinked_operations(value, point)

    def solve(self, rhs: Rows) -> Rows:
        """J⁻¹ rhs, and 0 for a singular J."""
        return self.factor.solve(rhs.unsqueeze(-1)).squeeze(-1)

    def require_unchanged(self, value: Rows) -> None:
        """Refuse the derivative of an F that is another one by now.

        Args:
            value: F at the solution, computed anew.

        Raises:
            InputError: if it differs from what it was by more than rounding.
        """
        largest = self.x.abs().amax(dim=-1)
        size = torch.where(largest > 0, largest, 1.0) * torch.finfo(self.x.dtype).eps ** 0.5
        if (self.solve(value - self.value).abs().amax(dim=-1) > size).any():
            raise InputError(
                "F has changed since its solution was made differentiable (a tensor, module or "
                "variable that it closes over): take the derivative before, or pass what changes "
                "as a parameter"
            )


def attach(linearized: Linearized, usable: Mask) -> Rows:
    """The solution with its derivative in everything that F depends on.

    Args:
        linearized: F at the solution.
        usable: the examples that have a derivative; the others get 0.
    """
    usable = usable & ~linearized.factor.singular
    return _Solution.apply(linearized, usable, linearized.x, *linearized.system.inputs)


class _Solution(torch.autograd.Function):
    """x, as a function of θ.

    The backward sends a cotangent v to −(∂F/∂θ)ᵀ J⁻ᵀ v. It is written in differentiable operations
    at the solution *with its own derivative* (the saved output), so that derivatives of every order
    follow from the first: no term of theirs is left out.
    """

    @staticmethod
    def forward(linearized: Linearized, usable: Tensor, x: Tensor, *inputs: Tensor) -> Rows:
        """The solution."""
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the solution and what it depends on."""
        ctx.linearized, ctx.usable = inputs[:2]
        ctx.save_for_backward(output, *inputs[3:])
        ctx.save_for_forward(output, *inputs[3:])

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        """−(∂F/∂θ)ᵀ J⁻ᵀ v for every θ that needs it."""
        x, *inputs = ctx.saved_tensors
        again = torch.is_grad_enabled()
        rhs = torch.where(ctx.usable.unsqueeze(-1), v, torch.zeros_like(v))
        with torch.enable_grad(), full_precision(x.device.type):
            point, own, value = _evaluate(ctx.linearized, x, inputs, again)
            u = _solve(ctx.linearized, ctx.usable, point, value, rhs, again, transposed=True)
            wanted = [t for t, needed in zip(own, ctx.needs_input_grad[3:], strict=True) if needed]
            found = _grad(value, wanted, -u, create_graph=again)
        _require_finite(found, ctx.usable, v)
        rest = iter(found)
        gradients = [next(rest) if needed else None for needed in ctx.needs_input_grad[3:]]
        return None, None, None, *gradients

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Rows:
        """−J⁻¹ (∂F/∂θ) θ̇, the middle product by two reverse passes."""
        linearized, usable = ctx.linearized, ctx.usable
        x, *inputs = ctx.saved_tensors
        again = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
        if again:
            # Here the output has no derivative yet, which a later reverse pass will ask for.
            x = _Solution.apply(linearized, usable, x.detach(), *inputs)
        with torch.enable_grad(), full_precision(x.device.type):
            point, own, value = _evaluate(linearized, x, inputs, again)
            w = torch.zeros_like(value, requires_grad=True)
            moving = [(t, dt) for t, dt in zip(own, tangents[3:], strict=True) if dt is not None]
            pulled = _grad(value, [t for t, _ in moving], w, create_graph=True)
            (image,) = _grad(pulled, [w], [dt for _, dt in moving], create_graph=again)
            dx = -_solve(linearized, usable, point, value, image, again)
        return torch.where(usable.unsqueeze(-1), dx, torch.zeros_like(dx))


def _evaluate(
    linearized: Linearized, x: Rows, inputs: Sequence[Tensor], linked: bool
) -> tuple[Tensor, list[Tensor], Tensor]:
    """F at new tensors for x and θ, to be differentiated in these alone.

    x is itself a function of θ: an alias keeps that path out of the partial derivatives, and a
    second derivative finds it again behind the alias.

    Args:
        linearized: F, and what it was.
        x: the solution.
        inputs: θ.
        linked: whether the new tensors are aliases, or leaves of their own.
    """
    system = linearized.system
    if linked:
        point = x.view_as(x)
        own = [t.view_as(t) for t in inputs]
        value = system.residual(point, own)
    else:
        point = x.detach().requires_grad_()
        own = [t.detach().requires_grad_() if t.is_floating_point() else t.detach() for t in inputs]
        value = system.residual_at_leaves(point, own)
    linearized.require_unchanged(value.detach())
    return point, own, value


def _solve(
    linearized: Linearized,
    usable: Mask,
    point: Rows,
    value: Rows,
    rhs: Rows,
    again: bool,
    transposed: bool = False,
) -> Rows:
    """J⁻¹ rhs or J⁻ᵀ rhs: by the factor that is there, or by a J that can be differentiated.

    Args:
        linearized: holds the factor.
        usable: the examples that have a derivative.
        point: x.
        value: F, with its graph from x.
        rhs: the right-hand side.
        again: whether the result is to be differentiated.
        transposed: whether Jᵀ is meant.
    """
    column = rhs.unsqueeze(-1)
    if not again and not transposed:
        return linearized.solve(rhs)
    if not again:
        return linearized.factor.solve_transposed(column).squeeze(-1)
    matrix = identity_unless(usable, jacobian(value, point, create_graph=True))
    return torch.linalg.solve(matrix.mT if transposed else matrix, column).squeeze(-1)


def _grad(
    outputs: Tensor | Sequence[Tensor],
    wanted: Sequence[Tensor],
    cotangents: Tensor | Sequence[Tensor],
    create_graph: bool,
) -> Sequence[Tensor]:
    """``torch.autograd.grad``, which answers 0 for what nothing depends on."""
    ends = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    given = [cotangents] if isinstance(cotangents, Tensor) else list(cotangents)
    pairs = [(end, c) for end, c in zip(ends, given, strict=True) if end.requires_grad]
    if not wanted or not pairs:
        return [torch.zeros_like(t) for t in wanted]
    return torch.autograd.grad(
        [end for end, _ in pairs],
        list(wanted),
        [c for _, c in pairs],
        create_graph=create_graph,
        materialize_grads=True,
    )


def _require_finite(gradients: Sequence[Tensor], usable: Mask, v: Rows) -> None:
    """Refuse what a masked example has spoiled although its cotangent is 0.

    Raises:
        InputError: if a gradient is not finite, and an example whose derivative was to be 0 may be
            why: 0 times a derivative of F that is not finite is not 0.
    """
    if usable.all() or not torch.isfinite(v).all():
        return
    if not all(bool(torch.isfinite(g).all()) for g in gradients):
        raise InputError(
            "an example that was to be masked has an F whose derivatives are not finite, which "
            "spoils those of the parameters it shares with the others: leave it out of the batch"
        )
