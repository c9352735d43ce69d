"""The two problems, in double precision: one with a gradient in closed form, and a VAE's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from benchmarks.cost.measure import exact_gradient
from benchmarks.decoder import DecoderBatch, decoder_batch
from savi.errors import InputError, require_at_least
from savi.inner.objective import InnerObjective, as_objective
from savi.vae.noise import common_noise


@dataclass(frozen=True)
class SoftmaxProblem:
    """max_x xᵀθ + H(x) over the simplex: softmax as an optimisation problem.

    It is solved in free log-coordinates, x(y) = softmax((y, 0)) with y ∈ R^{n−1}: the last logit
    is fixed at 0, because x does not change along 1 and the Hessian would be singular. The
    solution is y*_i = θ_i − θ_n, x* = softmax(θ). The outer loss is linear, L = (1/B) Σ_b wᵀx_b.

    J. Chiu, *Applications of the Implicit Function Theorem*, 2021, section 3.

    Attributes:
        theta: θ; requires a gradient.
        w: the weights of the outer loss.
        start: y0 = 0, where x is uniform.
    """

    theta: Float[Tensor, "B n"]
    w: Float[Tensor, " n"]
    start: Float[Tensor, "B n-1"]

    def objective(self, max_steps: int = 0) -> InnerObjective:
        """J(y) = −(x(y)ᵀθ + H(x(y)))."""
        return as_objective(self._negative_value)

    def outer(self, y: Float[Tensor, "B n-1"]) -> Float[Tensor, ""]:
        """L = (1/B) Σ_b wᵀx(y_b)."""
        return (pad(y, (0, 1)).softmax(dim=-1) @ self.w).mean()

    @property
    def weights(self) -> list[Tensor]:
        """θ."""
        return [self.theta]

    @property
    def given(self) -> list[Tensor]:
        """Every tensor that is there before the solve."""
        return [self.theta, self.w, self.start]

    def exact(self) -> tuple[Tensor, ...]:
        """∂L/∂θ_b = (1/B) (diag(x*) − x*x*ᵀ) w."""
        x = self.theta.detach().softmax(dim=-1)
        return (x * (self.w - (x @ self.w).unsqueeze(-1)) / len(x),)

    def _negative_value(self, y: Float[Tensor, "B n-1"]) -> Float[Tensor, " B"]:
        log_x = pad(y, (0, 1)).log_softmax(dim=-1)
        return (log_x.exp() * (log_x - self.theta)).sum(dim=-1)


@dataclass(frozen=True)
class DecoderProblem:
    """The ELBO of a batch of codes, and an outer loss with other noise.

    With the noise of J itself, ∂L/∂λ would vanish at the solution, and with it all that a
    backend adds to the direct gradient.

    Attributes:
        batch: the decoder, the data, and the noise of J.
        noise: of the outer loss.
    """

    batch: DecoderBatch
    noise: Float[Tensor, "S B d"]

    def objective(self, max_steps: int = 0) -> InnerObjective:
        """J(λ; θ) = −L(θ, λ; x)."""
        return self.batch.objective()

    def outer(self, value: Float[Tensor, "B P"]) -> Float[Tensor, ""]:
        """The mean of −L(θ, λ; x) under the other noise."""
        return replace(self.batch, noise=self.noise).objective()(value).mean()

    @property
    def start(self) -> Float[Tensor, "B P"]:
        """λ0."""
        return self.batch.init.detach()

    @property
    def weights(self) -> list[Tensor]:
        """θ."""
        return [p for p in self.batch.model.parameters() if p.requires_grad]

    @property
    def given(self) -> list[Tensor]:
        """Every tensor that is there before the solve."""
        return [*self.batch.given, self.noise]

    def exact(self) -> tuple[Tensor, ...]:
        """The implicit gradient at the exact solution."""
        return exact_gradient(self)


def softmax_problem(config: Mapping[str, Any]) -> SoftmaxProblem:
    """θ uniform in ± ``spread``, and normal w.

    Below a spread of about 1 the problem is convex around the start, so that an implicit gradient
    means something from the first step on; with far larger ones it takes thousands of steps.

    Args:
        config: ``seed``, ``rows`` B, ``items`` n and ``spread``.

    Raises:
        InputError: for values out of range.
    """
    for key, least in (("seed", 0), ("rows", 1), ("items", 2)):
        require_at_least(key, config[key], least)
    spread = config["spread"]
    if not 0 < spread < float("inf"):
        raise InputError(f"spread is {spread}: set it above 0")
    rows, items = config["rows"], config["items"]
    generator = torch.Generator().manual_seed(config["seed"])
    theta = torch.rand(rows, items, generator=generator, dtype=torch.float64)
    theta = (spread * (2.0 * theta - 1.0)).requires_grad_()
    w = torch.randn(items, generator=generator, dtype=torch.float64)
    return SoftmaxProblem(theta, w, torch.zeros(rows, items - 1, dtype=torch.float64))


def decoder_problem(config: Mapping[str, Any]) -> DecoderProblem:
    """The inner problem of an untrained VAE.

    Args:
        config: see :func:`benchmarks.decoder.decoder_batch`.

    Raises:
        InputError: for values out of range and an unknown activation.
    """
    batch = decoder_batch(config).to(torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"] + 1)
        noise = common_noise(config["samples"], batch.noise[0])(0)
    return DecoderProblem(batch, noise)
