"""What inner problems share that keep λ near λ0."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError, SettingError
from savi.inner.objective import OBJECTIVES, AnyObjective, InnerObjective, as_objective
from savi.linear.base import Rough
from savi.linear.dense import plus_diagonal
from savi.types import Blocks, Index, PerExample, Rows


@dataclass(eq=False)
class AnchoredObjective(InnerObjective):
    """A problem around a base objective J that depends on λ0 itself: so does its solution.

    A subclass that is a dataclass declares its options as fields; it then needs a value alone, and
    its derivatives are those of autograd. One without λ0 in it sets ``anchored`` to False.

    Args:
        base: J, which may be a plain callable.
        anchor: λ0, with its graph.

    Raises:
        InputError: if J is constrained, because its constraint would be lost.
    """

    anchored = True

    base: InnerObjective
    anchor: Rows

    def __post_init__(self) -> None:
        self.base = base = as_objective(self.base)
        if base.constrained:
            raise InputError(
                f"{type(self).__name__} around a constrained objective, whose constraint would be "
                "lost: give it the unconstrained one"
            )
        self.take_over(base)
        # Where the subclass leaves a derivative to autograd, that of J in closed form is no help.
        self.closed_gradient = base.closed_gradient and self._overrides("gradient")
        self.closed_hessian = base.closed_hessian and self._overrides("exact_curvature")
        self.gauss_newton = base.gauss_newton and self._overrides("curvature")

    def _overrides(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(InnerObjective, method)

    def around(self, base: InnerObjective) -> Self:
        """The same problem around another base objective."""
        return replace(self, base=base)

    def cut(self, base: InnerObjective, index: Index) -> Self:
        """The same problem for some of the examples, whose base objective is given."""
        return replace(self, base=base, anchor=self.anchor[index])

    def rows(self, index: Index) -> InnerObjective | None:
        """The same for some of the examples."""
        base = self.base.rows(index)
        return None if base is None else self.cut(base, index)

    def natural_gradient(self, y: Rows, gradient: Rows) -> Rows:
        """In the metric of the base objective's distribution."""
        return self.base.natural_gradient(y, gradient)

    def natural_step(self, y: Rows, gradient: Rows, length: PerExample, scale: float = 1.0) -> Rows:
        """In the metric of the base objective's distribution."""
        return self.base.natural_step(y, gradient, length, scale)

    def evaluated(self, y: Rows) -> None:
        """Counted by J."""
        self.base.evaluated(y)

    def at_step(self, step: int) -> InnerObjective:
        """The same around the base objective of that step."""
        return self.around(self.base.at_step(step)) if self.stochastic else self


def positive_constant(name: str, value: float | Tensor, anchor: Rows) -> Float[Tensor, "*batch"]:
    """A number, or one value per example, in the float type and on the device of λ0.

    Raises:
        SettingError: for another shape, or a value that is no finite number above 0.
    """
    dtype = torch.promote_types(anchor.dtype, torch.float32)
    constant = torch.as_tensor(value, dtype=dtype, device=anchor.device)
    if constant.shape not in ((), (1,), anchor.shape[:1]):
        shape = tuple(constant.shape)
        raise SettingError(
            name, f"has shape {shape}: set it to a number, or to one value per example"
        )
    constant = constant.reshape(()) if constant.shape == (1,) else constant
    for refused in constant[~((constant > 0) & torch.isfinite(constant))].tolist():
        raise SettingError(name, f"is {refused}: set it to a finite number above 0")
    return constant


@OBJECTIVES.register("proximal")
class Proximal(AnchoredObjective):
    """J(λ) + ρ/2 ‖λ − λ0‖²: the inner problem of iMAML (Rajeswaran et al. 2019).

    Its exact solution depends on λ0, ∂λ*/∂λ0 = ρ H⁻¹ with H the Hessian including ρI, so that an
    implicit gradient reaches the encoder.

    Args:
        base: J, which may be a plain callable.
        anchor: λ0, with its graph.
        rho: ρ > 0; a number, or one value per example.

    Raises:
        InputError: if a ρ is not above 0, or J is constrained.
    """

    def __init__(self, base: AnyObjective, anchor: Rows, rho: float | PerExample) -> None:
        self.rho = positive_constant("rho", rho, anchor)
        super().__init__(as_objective(base), anchor)

    def around(self, base: InnerObjective) -> Proximal:
        """The same problem around another J."""
        return Proximal(base, self.anchor, self.rho)

    def cut(self, base: InnerObjective, index: Index) -> Proximal:
        """With those rows of the anchor."""
        return Proximal(base, self.anchor[index], self.rho[index] if self.rho.ndim else self.rho)

    def __call__(self, y: Rows) -> PerExample:
        """J plus the proximal term."""
        return self.base(y) + 0.5 * self.rho * (y - self.anchor).square().sum(dim=-1)

    def gradient(self, y: Rows, create_graph: bool = False) -> tuple[PerExample, Rows]:
        """J plus the proximal term, and ∇J + ρ (λ − λ0)."""
        value, gradient = self.base.gradient(y, create_graph)
        with torch.set_grad_enabled(create_graph):
            n = y - self.anchor
            value = value + (0.5 * self.rho * n.square().sum(dim=-1)).detach()
            return value, torch.addcmul(gradient, n, self.rho.unsqueeze(-1))

    def curvature(self, y: Rows, create_graph: bool = False) -> Blocks:
        """C + ρI."""
        return self._plus_rho(self.base.curvature(y, create_graph))

    def exact_curvature(self, y: Rows, create_graph: bool = False) -> Blocks:
        """∇²J + ρI."""
        return self._plus_rho(self.base.exact_curvature(y, create_graph))

    def rough_curvature(self, y: Rows) -> Rough | None:
        """The same to a few digits, and its products."""
        rough = self.base.rough_curvature(y)
        if rough is None:
            return None
        rho, matvec, exact = self.rho.expand(len(y)).unsqueeze(-1), rough.matvec, rough.exact
        return Rough(
            plus_diagonal(rough.blocks, rho),
            lambda v: torch.addcmul(matvec(v), v, rho),
            lambda index: plus_diagonal(exact(index), rho[index]),
            torch.addcmul(rough.gradient, y - self.anchor.detach(), rho),
        )

    def _plus_rho(self, matrix: Blocks) -> Blocks:
        return plus_diagonal(matrix, self.rho.unsqueeze(-1))
