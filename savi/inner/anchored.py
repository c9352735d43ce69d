"""What inner problems share that keep λ near λ0."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from savi.errors import InputError
from savi.inner.objective import OBJECTIVES, InnerObjective
from savi.linear.dense import plus_diagonal


@dataclass(eq=False)
class AnchoredObjective(InnerObjective):
    """A problem around a base objective J that depends on λ0 itself: so does its solution.

    A subclass that is a dataclass declares its options as fields; it then needs a value alone, and
    its derivatives are those of autograd. One without λ0 in it sets ``anchored`` to False.

    Args:
        base: J.
        anchor: λ0, with its graph.

    Raises:
        InputError: if J is constrained, because its constraint would be lost.
    """

    anchored = True

    base: InnerObjective
    anchor: Float[Tensor, "B P"]

    def __post_init__(self) -> None:
        base = self.base
        if base.constrained:
            raise InputError(
                f"{type(self).__name__} around a constrained objective, whose constraint would be "
                "lost: give it the unconstrained one"
            )
        self.stochastic, self.has_fisher = base.stochastic, base.has_fisher
        # Where the subclass leaves a derivative to autograd, that of J in closed form is no help.
        self.closed_gradient = base.closed_gradient and self._overrides("gradient")
        self.closed_hessian = base.closed_hessian and self._overrides("exact_curvature")
        self.gauss_newton = base.gauss_newton and self._overrides("curvature")

    def _overrides(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(InnerObjective, method)

    def around(self, base: InnerObjective) -> Self:
        """The same problem around another base objective."""
        return replace(self, base=base)

    def cut(self, base: InnerObjective, index: Int[Tensor, " R"]) -> Self:
        """The same problem for some of the examples, whose base objective is given."""
        return replace(self, base=base, anchor=self.anchor[index])

    def rows(self, index: Int[Tensor, " R"]) -> InnerObjective | None:
        """The same for some of the examples."""
        base = self.base.rows(index)
        return None if base is None else self.cut(base, index)

    def natural_gradient(
        self, y: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        """In the metric of the base objective's distribution."""
        return self.base.natural_gradient(y, gradient)

    def evaluated(self, y: Float[Tensor, "B P"]) -> None:
        """Counted by J."""
        self.base.evaluated(y)

    def at_step(self, step: int) -> InnerObjective:
        """The same around the base objective of that step."""
        return self.around(self.base.at_step(step)) if self.stochastic else self


@OBJECTIVES.register("proximal")
class Proximal(AnchoredObjective):
    """J(λ) + ρ/2 ‖λ − λ0‖²: the inner problem of iMAML (Rajeswaran et al. 2019).

    Its exact solution depends on λ0, ∂λ*/∂λ0 = ρ H⁻¹ with H the Hessian including ρI, so that an
    implicit gradient reaches the encoder.

    Args:
        base: J.
        anchor: λ0, with its graph.
        rho: ρ > 0; a number, or one value per example.

    Raises:
        InputError: if a ρ is not above 0, or J is constrained.
    """

    def __init__(
        self, base: InnerObjective, anchor: Float[Tensor, "B P"], rho: float | Float[Tensor, " B"]
    ) -> None:
        dtype = torch.promote_types(anchor.dtype, torch.float32)
        self.rho = torch.as_tensor(rho, dtype=dtype, device=anchor.device)
        if self.rho.shape not in ((), anchor.shape[:1]):
            raise InputError(
                f"inner.rho has shape {tuple(self.rho.shape)}: set it to a number, or to one value "
                "per example"
            )
        for refused in self.rho[~((self.rho > 0) & torch.isfinite(self.rho))].tolist():
            raise InputError(f"inner.rho is {refused}: the proximal problem needs a number above 0")
        super().__init__(base, anchor)

    def around(self, base: InnerObjective) -> Proximal:
        """The same problem around another J."""
        return Proximal(base, self.anchor, self.rho)

    def cut(self, base: InnerObjective, index: Int[Tensor, " R"]) -> Proximal:
        """With those rows of the anchor."""
        return Proximal(base, self.anchor[index], self.rho[index] if self.rho.ndim else self.rho)

    def __call__(self, y: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """J plus the proximal term."""
        return self.base(y) + 0.5 * self.rho * (y - self.anchor).square().sum(dim=-1)

    def gradient(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B P"]]:
        """J plus the proximal term, and ∇J + ρ (λ − λ0)."""
        if create_graph or not self.base.closed_gradient:
            return super().gradient(y, create_graph)
        value, gradient = self.base.gradient(y)
        with torch.no_grad():
            n = y - self.anchor
            value = value + 0.5 * self.rho * n.square().sum(dim=-1)
            return value, torch.addcmul(gradient, n, self.rho.unsqueeze(-1))

    def curvature(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> Float[Tensor, "B P P"]:
        """C + ρI."""
        return self._plus_rho(self.base.curvature(y, create_graph))

    def exact_curvature(
        self, y: Float[Tensor, "B P"], create_graph: bool = False
    ) -> Float[Tensor, "B P P"]:
        """∇²J + ρI."""
        return self._plus_rho(self.base.exact_curvature(y, create_graph))

    def _plus_rho(self, matrix: Float[Tensor, "B P P"]) -> Float[Tensor, "B P P"]:
        return plus_diagonal(matrix, self.rho.unsqueeze(-1))
