"""What a per-example linear solver takes and returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from savi.registry import Registry
from savi.settings import Checked
from savi.types import Blocks, Counts, PerExample, Rows

SOLVERS: Registry[type[LinearSolver]] = Registry("solver")


class LinearStatus(IntEnum):
    """How the linear solve of one example ended."""

    SOLVED = 0
    MAX_STEPS = 1
    INDEFINITE = 2
    SINGULAR = 3


class Rough(NamedTuple):
    """Symmetric matrices to a few digits, and their products to all of them.

    Attributes:
        blocks: about H, shape [B, P, P].
        matvec: v [B, P] -> H v [B, P].
        exact: the numbers of some examples [R] -> their exact blocks [R, P, P].
        gradient: that of which H is the derivative, where H is, shape [B, P].
    """

    blocks: Blocks
    matvec: Callable[[Tensor], Tensor]
    exact: Callable[[Tensor], Tensor]
    gradient: Rows


@dataclass(frozen=True)
class SymmetricOperator:
    """A batch of symmetric matrices H, one P×P block per example.

    Attributes:
        matvec: v [B, P] -> H v [B, P].
        dense: () -> all blocks [B, P, P].
        preconditioner: () -> positive definite blocks [B, P, P] close to H, or None.
        rough: () -> H to a few digits, where that takes less time than ``dense``, or None.
    """

    matvec: Callable[[Tensor], Tensor]
    dense: Callable[[], Tensor]
    preconditioner: Callable[[], Tensor] | None = None
    rough: Callable[[], Rough | None] = lambda: None


@dataclass(frozen=True)
class LinearSolution:
    """The solution u of H u = v for every example.

    Attributes:
        value: u, shape [B, P]; 0 for an example that could not be solved. An iterative solver
            answers a singular block with what it found off the null space.
        residual: the true residual ‖H u − v‖ / ‖v‖, shape [B].
        steps: iterations taken, shape [B] (0 for direct solvers).
        status: shape [B], integer values of :class:`LinearStatus`.
        min_curvature: an estimate from above of the smallest eigenvalue of H, shape [B];
            negative when negative curvature was met, infinite when no direction was tried, NaN
            for a block that is not finite.
        inverse: w [B, P] -> H⁻¹ w by the factor of a direct solver (0 for a singular block), so
            that another right-hand side costs no new factorisation; None for iterative solvers.
    """

    value: Rows
    residual: PerExample
    steps: Counts
    status: Counts
    min_curvature: PerExample
    inverse: Callable[[Tensor], Tensor] | None = None


class LinearSolver(Checked, ABC):
    """Solves H u = v for each example by itself: own dot products, own stopping, own status.

    Attributes:
        name: the name in configs.
        direct: whether the blocks are factorised, and ``LinearSolution.inverse`` is there.
        biased: whether the answer solves another system than H u = v.
        needs_gauss_newton: whether ``SymmetricOperator.preconditioner`` is required.
    """

    name: ClassVar[str]
    direct: ClassVar[bool] = False
    biased: ClassVar[bool] = False
    needs_gauss_newton: ClassVar[bool] = False

    @classmethod
    def configured(cls, rtol: float, max_steps: int | None) -> LinearSolver:
        """The solver with a gradient backend's stopping rule, which a direct one has no use for."""
        return cls()

    def rough(self) -> LinearSolver:
        """A cheap solver of the same kind, for a look in other directions."""
        return self

    def __call__(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """Solve with each right-hand side scaled to norm 1.

        Cotangents as small as 1e-30 are common in float32, where their squares underflow; the
        solve is linear, so scaling loses nothing. A zero right-hand side is answered with 0, a
        non-finite one with NaN.
        """
        size = norm(rhs).unsqueeze(-1)
        unit = torch.where(size > 0, rhs / size, torch.zeros_like(rhs))
        solution = self.solve(operator, unit)
        return replace(solution, value=solution.value * size)

    @abstractmethod
    def solve(self, operator: SymmetricOperator, rhs: Rows) -> LinearSolution:
        """Solve for right-hand sides of norm 1 (or 0)."""


def true_residual(product: Rows, rhs: Rows) -> PerExample:
    """‖H u − v‖ for ‖v‖ = 1; 0 for v = 0, where u = 0."""
    return torch.linalg.vector_norm(product - rhs, dim=-1)


def irregular(like: Rows) -> Rows:
    """The same start sin(1), …, sin(P) for every example of a power or inverse iteration.

    Being irregular, it is orthogonal to the eigenvector sought with probability 0; unlike a
    right-hand side, it is never 0.
    """
    index = torch.arange(1, like.shape[-1] + 1, dtype=like.dtype, device=like.device)
    return torch.sin(index).expand_as(like)


def norm(v: Rows) -> PerExample:
    """‖v‖ per example, whose squares neither overflow nor underflow; NaN if v is not finite."""
    if v.dtype == torch.float32:
        # The squares of float32 numbers are ordinary float64 numbers.
        size = torch.linalg.vector_norm(v, dim=-1, dtype=torch.float64)
        return (size + 0.0 * size).float()
    largest = v.abs().amax(dim=-1, keepdim=True)
    scaled = torch.where(largest > 0, v / largest, v)
    return largest.squeeze(-1) * torch.linalg.vector_norm(scaled, dim=-1)


def rounding(size: int, scale: Float[Tensor, " *B"]) -> Float[Tensor, " *B"]:
    """10 √P ε · scale: what is 0 for all that is known, beside numbers of this scale.

    P roundings add up to about √P ε (Higham and Mary, SIAM J. Sci. Comput. 41, 2019). By the
    factor, whether a block is singular is not decided by the last bit, and a block that is not has
    an answer with a digit that is right.
    """
    return 10.0 * size**0.5 * torch.finfo(scale.dtype).eps * scale


def dot(a: Rows, b: Rows) -> PerExample:
    """One dot product per example."""
    return (a * b).sum(dim=-1)
