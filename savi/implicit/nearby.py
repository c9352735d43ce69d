"""What F shows at small distances from a solution: kinks, mixed rows, and a moving ∂F/∂θ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from savi.implicit.system import System
from savi.linear.base import irregular
from savi.types import PerExample, Rows

#: A smooth F changes its derivative by less than that in a step of 1e-6 of x (1e-3 in float32).
MAX_JUMP = 0.05


@dataclass(frozen=True)
class Nearby:
    """F around x, with every difference taken in the units of x, as J⁻¹ΔF.

    Attributes:
        system: F.
        x: the solution.
        value: F(x).
        product: p ↦ J p.
        solve: r ↦ J⁻¹ r.
        rounding: ε κ(J), what rounding may do to J⁻¹ΔF; 0 where that is unknown.
    """

    system: System
    x: Rows
    value: Rows
    product: Callable[[Tensor], Tensor]
    solve: Callable[[Tensor], Tensor]
    rounding: PerExample

    def jump_in_x(self) -> PerExample:
        """How much ∂F/∂x changes in a small step of x, where that is a kink or rows are mixed.

        The largest ‖J⁻¹[F(x + δ) − F(x) − Jδ]‖∞ / ‖δ‖∞ for four δ of the same relative size. A kink
        may show on one side only, and not at all along a direction that leads along it: hence two
        directions and both signs. Every coordinate of δ is small beside that of x, so that x + δ
        stays where x must stay (above 0, say). Every row moves differently, which shows an F that
        mixes its rows.
        """
        return self._where_it_stays(self._jump_in_x)

    def jump_in_params(self) -> PerExample:
        """The same for ∂F/∂θ in a small step of θ, in the directions of :meth:`drift`.

        ‖J⁻¹[F(θ + δ) − 2F(θ) + F(θ − δ)]‖ relative to ‖J⁻¹[F(θ + δ) − F(θ − δ)]‖ / 2.
        """
        return self._where_it_stays(self._jump_in_params)

    def drift(self, step: Rows) -> PerExample:
        """The relative change of J⁻¹ ∂F/∂θ from x to x + s, the largest over the parameters.

        One direction in each parameter is tried, and one in all tensors together that F closes
        over. An effect on x that is smaller than √ε ‖x‖ counts as none, and so does a step that is
        rounding.
        """
        worst = torch.zeros_like(self.rounding)
        least = 8.0 * torch.finfo(self.x.dtype).eps * torch.linalg.vector_norm(self.x, dim=-1)
        goes_on = ~(torch.linalg.vector_norm(step, dim=-1) <= least)
        if not goes_on.any():
            return worst
        h = step_size(self.x)
        for moved in self._directions():
            effects = [
                self.solve(self._at(x, moved(h)) - self._at(x, moved(-h))) / (2.0 * h)
                for x in (self.x, self.x + step)
            ]
            change = torch.linalg.vector_norm(effects[1] - effects[0], dim=-1)
            worst = worst.maximum(change / self._size(*effects))
        return torch.where(goes_on, worst.nan_to_num(nan=torch.inf), 0.0)

    def _jump_in_x(self, h: float) -> PerExample:
        scale = h * row_factors(self.x) * _scale(self.x, self.x.abs().amax(-1, keepdim=True))
        jump = torch.zeros_like(self.rounding)
        for direction in (irregular(self.x), irregular(self.x).flip(-1)):
            for delta in (direction * scale, -direction * scale):
                moved = self.solve(self._at(self.x + delta) - self.value - self.product(delta))
                size = delta.abs().amax(dim=-1)
                # Less what rounding makes of a step so small.
                jump = jump.maximum(moved.abs().amax(dim=-1) / size - 4.0 * self.rounding / h)
        return jump.nan_to_num(nan=torch.inf)

    def _jump_in_params(self, h: float) -> PerExample:
        jump = torch.zeros_like(self.rounding)
        for moved in self._directions():
            up, down = (self.solve(self._at(self.x, moved(s)) - self.value) / h for s in (h, -h))
            bend = torch.linalg.vector_norm(up + down, dim=-1)
            jump = jump.maximum(bend / self._size(up, down))
        return jump.nan_to_num(nan=torch.inf)

    def _where_it_stays(self, measure: Callable[[float], Tensor]) -> PerExample:
        """Curvature shrinks with the step and a kink does not: what halves in a quarter is 0."""
        h = step_size(self.x)
        first = measure(h)
        if not (first > MAX_JUMP).any():
            return first
        return torch.where(measure(0.25 * h) > 0.5 * first, first, torch.zeros_like(first))

    def _directions(self) -> Iterator[Callable[[float], list[Tensor]]]:
        """Functions of s that move some inputs of F by about s of their size."""
        inputs = [t.detach() for t in self.system.inputs]
        count = len(self.system.params)
        for group in (*([i] for i in range(count)), [*range(count, len(inputs))]):
            chosen = {i for i in group if inputs[i].is_floating_point() and inputs[i].numel()}
            if chosen:
                yield partial(_all_moved, inputs, chosen)

    def _at(self, x: Rows, inputs: list[Tensor] | None = None) -> Tensor:
        given = [t.detach() for t in self.system.inputs] if inputs is None else inputs
        return self.system.residual(x, given).detach()

    def _size(self, *effects: Rows) -> PerExample:
        """That of the largest, at least what rounding may have made of nothing."""
        eps = torch.finfo(self.x.dtype).eps
        least = (8.0 * self.rounding / step_size(self.x)).clamp_min(eps**0.5)
        floor = least * torch.linalg.vector_norm(self.x, dim=-1)
        largest = torch.stack([torch.linalg.vector_norm(e, dim=-1) for e in effects]).amax(dim=0)
        return largest.maximum(floor).clamp_min(torch.finfo(self.x.dtype).tiny)


def step_size(x: Rows) -> float:
    """Where the rounding and the curvature of a difference weigh about the same."""
    return torch.finfo(x.dtype).eps ** 0.4


def row_factors(x: Rows) -> Tensor:
    """A number of size 0.5 to 1.5 and a sign for every row, [B, 1]; no two rows have the same."""
    rows = torch.arange(len(x), dtype=x.dtype, device=x.device)
    # The golden ratio keeps the factors of any two rows apart.
    size = 0.5 + (0.618034 * rows) % 1.0
    return torch.where(rows % 2 == 0, size, -size).unsqueeze(-1)


def _all_moved(inputs: list[Tensor], chosen: set[int], s: float) -> list[Tensor]:
    return [_moved(t, s) if i in chosen else t for i, t in enumerate(inputs)]


def _moved(t: Tensor, s: float) -> Tensor:
    direction = irregular(t.reshape(-1)).view_as(t)
    return t + s * direction * _scale(t, t.abs().max())


def _scale(t: Tensor, largest: Tensor) -> Tensor:
    """The size of every entry; of those that are 0, the largest one's, or 1."""
    scale = torch.where(t != 0, t.abs(), largest)
    return torch.where(scale > 0, scale, torch.ones_like(scale))
