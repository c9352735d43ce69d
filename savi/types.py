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

#: A number as a tensor: a loss.
Scalar: TypeAlias = Float[Tensor, ""]
