"""A constrained problem, and its KKT conditions as a system of equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.types import Active, Equalities, Inequalities, PerExample, Points

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Problem:
    """min f(x; θ) subject to h(x; θ) = 0 and g(x; θ) ≤ 0, for every example.

    Each function takes (x [B, n], *params), and its row b depends on row b of x alone.

    Attributes:
        objective: f, one value per example, [B].
        equalities: h, [B, m]; None for none.
        inequalities: g, [B, p]; None for none.
    """

    objective: Function
    equalities: Function | None = None
    inequalities: Function | None = None

    def values(self, x: Points, *params: Tensor) -> tuple[PerExample, Equalities, Inequalities]:
        """f, h and g at x.

        Raises:
            InputError: if one of them has another shape.
        """
        objective = _checked("objective", self.objective(x, *params), x, 1)
        named = (("equalities", self.equalities), ("inequalities", self.inequalities))
        h, g = (
            x[:, :0] if function is None else _checked(name, function(x, *params), x, 2)
            for name, function in named
        )
        return objective, h, g

    def kkt_equations(
        self, x: Points, u: Equalities, v: Inequalities, active: Active, *params: Tensor
    ) -> Float[Tensor, "B n+m+p"]:
        """The KKT conditions (Karush 1939; Kuhn and Tucker 1951) for a known active set.

            ∇f + (∂h/∂x)ᵀu + (∂g/∂x)ᵀv = 0,   h = 0,   g_i = 0 if i is active, else v_i = 0.

        The last is complementary slackness, v_i g_i = 0, without the factor that is not 0. With
        it the row of an active constraint would be scaled by its multiplier, and look nearly
        singular where that is merely small; the report multiplies its equality by u in that way.
        """
        with torch.enable_grad():
            point = x if x.requires_grad else x.detach().requires_grad_()
            objective, h, g = self.values(point, *params)
            lagrangian = objective + (u * h).sum(dim=-1) + (v * g).sum(dim=-1)
            gradient = torch.zeros_like(point)
            if lagrangian.requires_grad:
                (gradient,) = torch.autograd.grad(
                    lagrangian.sum(), point, create_graph=True, materialize_grads=True
                )
        return torch.cat([gradient, h, torch.where(active, g, v)], dim=-1)


def _checked(name: str, value: object, x: Points, ndim: int) -> Tensor:
    """The value of a function of the problem, if it has one row per example."""
    if isinstance(value, Tensor) and value.ndim == ndim and len(value) == len(x):
        return value
    shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    wanted = f"({len(x)},)" if ndim == 1 else f"({len(x)}, number of {name})"
    raise InputError(
        f"the problem's {name} returned {shape} for a solution of shape {tuple(x.shape)}: return "
        f"a tensor of shape {wanted}, one row per example"
    )
