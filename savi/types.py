"""The shapes that repeat: B examples of P variables, S samples of d latents, D observed values."""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

#: One vector per example: λ, a gradient in λ, a right-hand side.
Rows: TypeAlias = Float[Tensor, "B P"]

#: One matrix per example: a Hessian, its factor.
Blocks: TypeAlias = Float[Tensor, "B P P"]

#: One number per example: an objective, a norm, a residual.
PerExample: TypeAlias = Float[Tensor, " B"]

#: One integer per example: steps, statuses.
Counts: TypeAlias = Int[Tensor, " B"]

#: One answer per example.
Mask: TypeAlias = Bool[Tensor, " B"]

#: Numbers of some of the examples.
Index: TypeAlias = Int[Tensor, " R"]

#: Observations, flattened.
Observations: TypeAlias = Float[Tensor, "B D"]

#: One latent code per example.
Codes: TypeAlias = Float[Tensor, "B d"]

#: S latent codes, or draws of noise, per example.
Samples: TypeAlias = Float[Tensor, "S B d"]

#: One number per sample and example: log p(x|z_s), an importance weight.
PerSample: TypeAlias = Float[Tensor, "S B"]

#: A number as a tensor: a loss.
Scalar: TypeAlias = Float[Tensor, ""]

#: One vector of the n unknowns per quadratic program: a minimiser, a direction, a linear term.
Points: TypeAlias = Float[Tensor, "B n"]

#: One number per equality of a quadratic program: right-hand sides, multipliers.
Equalities: TypeAlias = Float[Tensor, "B m"]

#: One number per inequality of a quadratic program: bounds, slacks, multipliers.
Inequalities: TypeAlias = Float[Tensor, "B p"]

#: Some of the inequalities of every quadratic program.
Active: TypeAlias = Bool[Tensor, "B p"]

#: Matrices of quadratic programs, one per example (S = B) or one for all (S = 1).
Symmetric: TypeAlias = Float[Tensor, "S n n"]
Constraints: TypeAlias = Float[Tensor, "S p n"]
