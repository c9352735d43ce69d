"""log p(x|z) as a function, often a quadratic one, of the decoder's last outputs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.types import Index, Observations, PerExample

#: Outputs of a part of the decoder, a number for each, vectors that ∇²f maps, a head's features.
Outputs: TypeAlias = Float[Tensor, "*S B F"]
Values: TypeAlias = Float[Tensor, "*S B"]
Vectors: TypeAlias = Float[Tensor, "*batch n F"]
Features: TypeAlias = Float[Tensor, "B F"]


#: So many times larger than their sum may the terms of an expansion be.
CANCELLATION = 16.0


class OutputTerms(ABC):
    """f(o) = log p(x|z) in nats, as a function of the outputs o of a part of the decoder.

    One row for each example of a batch; an o of shape [S, B, F] holds S outputs for each.
    """

    @abstractmethod
    def __call__(self, o: Outputs) -> tuple[Values, Outputs]:
        """f(o) and ∇f(o)."""

    def value(self, o: Outputs) -> Values:
        """f(o) alone."""
        return self(o)[0]

    @abstractmethod
    def curvature(self, o: Outputs, v: Vectors) -> Vectors:
        """M v with M = −∇²f(o); n vectors v for each example."""

    @abstractmethod
    def fisher(self, o: Outputs, v: Vectors) -> Vectors:
        """M v with M = −E ∇²f(o), the expectation over x ~ p(x|z): never indefinite."""

    @abstractmethod
    def rows(self, index: Index) -> OutputTerms:
        """Of some of the examples."""


class Quadratic(OutputTerms):
    """An f that is quadratic in o: of a Gaussian likelihood."""

    @abstractmethod
    def metric(self, v: Vectors) -> Vectors:
        """M v with M = −∇²f, the same for every example; n vectors v for each."""

    def curvature(self, o: Outputs, v: Vectors) -> Vectors:
        """M v, whatever o is."""
        return self.metric(v)

    def fisher(self, o: Outputs, v: Vectors) -> Vectors:
        """M v, whatever o is."""
        return self.metric(v)


class PixelQuadratic(Quadratic):
    """o = μ, the mean of x: f(μ) = −½ [(x − μ)ᵀ Γ⁻¹ (x − μ) + log det 2πΓ] with Γ = diag γ.

    Args:
        x: the observations.
        gamma: γ, of shape [1] or [D]; or [R, 1, 1] or [R, 1, D] for x of shape [R, B, D], where R
            models see a batch each.
    """

    def __init__(self, x: Float[Tensor, "*R B D"], gamma: Float[Tensor, "*#R #D"]) -> None:
        self.x, self.gamma = x, gamma

    def __call__(self, o: Outputs) -> tuple[Values, Outputs]:
        """f(μ), and (x − μ)/γ."""
        residual = self.x - o
        score = residual / self.gamma
        return -0.5 * ((residual * score).sum(dim=-1) + log_normaliser(self.x, self.gamma)), score

    def value(self, o: Outputs) -> Values:
        """f(μ)."""
        square = (self.x - o).square()
        return -0.5 * (weighted_sum(square, self.gamma) + log_normaliser(self.x, self.gamma))

    def metric(self, v: Vectors) -> Vectors:
        """Γ⁻¹ v."""
        return v / self.gamma.unsqueeze(-2)

    def rows(self, index: Index) -> PixelQuadratic:
        """With those rows of x."""
        return PixelQuadratic(self.x[index], self.gamma)


class FeatureQuadratic(Quadratic):
    """o = h, the features below an affine head μ = W h + b: no operation on D numbers is left.

    Around a reference h0 with residual r0 = x − W h0 − b, and δ = h − h0,

        f(h) = f(h0) + pᵀδ − ½ δᵀGδ,    G = WᵀΓ⁻¹W,    p = WᵀΓ⁻¹r0,    ∇f(h) = p − Gδ.

    G, p and f(h0) are computed once, for any number of evaluations; they keep their graph to W, b,
    γ and x. Far from h0 the three terms may be far larger than their sum, of which rounding then
    leaves little: where they cancel to a part in :data:`CANCELLATION`, f is computed from the D
    numbers after all. h0 is a constant: f does not depend on it.

    Args:
        gram: G.
        reference: h0.
        height: f(h0).
        score: p.
        head: W and b.
        pixels: f as a function of μ.
    """

    def __init__(
        self,
        gram: Float[Tensor, "F F"],
        reference: Features,
        height: PerExample,
        score: Features,
        head: nn.Linear,
        pixels: PixelQuadratic,
    ) -> None:
        self.gram, self.reference, self.height, self.score = gram, reference, height, score
        self.head, self.pixels = head, pixels

    @classmethod
    def of(
        cls, head: nn.Linear, gamma: Float[Tensor, "#D"], x: Observations, reference: Features
    ) -> FeatureQuadratic:
        """The statistics of a batch: two products with W for each example, and one WᵀW."""
        weight, reference = head.weight, reference.detach()
        pixels = PixelQuadratic(x, gamma)
        height, score = pixels(head(reference))
        gram = head_metric(weight, gamma)
        return cls(gram, reference, height, score @ weight, head, pixels)

    def __call__(self, o: Outputs) -> tuple[Values, Outputs]:
        """f(h), and p − Gδ."""
        delta = o - self.reference
        score = self.score - delta @ self.gram
        before, after = (delta * self.score).sum(dim=-1), (delta * score).sum(dim=-1)
        value = self.height + 0.5 * (before + after)
        if self._cancels(value, before, after):
            value, of_pixels = self.pixels(self.head(o))
            return value, of_pixels @ self.head.weight
        return value, score

    @torch.no_grad()
    def _cancels(self, value: Values, before: Values, after: Values) -> bool:
        """Whether pᵀδ and ½δᵀGδ are far larger than f, or than D, which f is about at its best."""
        busy = value.is_cuda and torch.cuda.is_current_stream_capturing()
        if torch.compiler.is_compiling() or busy:
            return False
        terms = self.height.abs() + before.abs() + 0.5 * (before - after).abs()
        return bool((terms > CANCELLATION * (value.abs() + self.pixels.x.shape[-1])).any())

    def metric(self, v: Vectors) -> Vectors:
        """G v."""
        return v @ self.gram

    def rows(self, index: Index) -> FeatureQuadratic:
        """With those rows of h0, f(h0) and p."""
        return FeatureQuadratic(
            self.gram,
            self.reference[index],
            self.height[index],
            self.score[index],
            self.head,
            self.pixels.rows(index),
        )


def weighted_sum(
    square: Float[Tensor, "*batch D"], gamma: Float[Tensor, "*#batch #D"]
) -> Float[Tensor, "*batch"]:
    """Σ_i v_i / γ_i; scaling the sum of a shared γ is cheaper than scaling every pixel."""
    if gamma.shape[-1] == 1:
        return square.sum(-1) / gamma.squeeze(-1)
    return (square / gamma).sum(-1)


def log_normaliser(
    x: Float[Tensor, "*R B D"], gamma: Float[Tensor, "*#R #D"]
) -> Float[Tensor, "*#R"]:
    """The value of log det 2πΓ."""
    return (2.0 * math.pi * gamma).log().sum(-1) * (x.shape[-1] / gamma.shape[-1])


def head_metric(weight: Float[Tensor, "D F"], gamma: Float[Tensor, "#D"]) -> Float[Tensor, "F F"]:
    """WᵀΓ⁻¹W."""
    if len(gamma) == 1:
        return self_product(weight) / gamma
    return self_product(weight / gamma.sqrt().unsqueeze(-1))


#: Into so many blocks the columns are cut: more of them multiply less, but in smaller products.
BLOCKS = 4


def self_product(a: Float[Tensor, "D F"]) -> Float[Tensor, "F F"]:
    """AᵀA, differentiable any number of times."""
    return SelfProduct.apply(a)


def symmetric_form(
    rows: Float[Tensor, "B d F"], metric: Float[Tensor, "F F"]
) -> Float[Tensor, "B d d"]:
    """T M Tᵀ of every example's rows T, for a symmetric M; without a graph.

    With M = K + Kᵀ it is P + Pᵀ with P = T K Tᵀ, which is summed up in the type of M, whatever that
    of the rows is.
    """
    form = times_half(rows, metric).to(metric.dtype) @ rows.mT.to(metric.dtype)
    return form + form.mT


def times_half(
    rows: Float[Tensor, "*batch d F"], metric: Float[Tensor, "F F"]
) -> Float[Tensor, "*batch d F"]:
    """T K with K + Kᵀ = M, a symmetric matrix; without a graph.

    K holds the blocks of M below its diagonal and half of those on it, so that T K multiplies five
    numbers where T M multiplies eight.
    """
    flat = rows.reshape(-1, rows.shape[-1])
    product = torch.empty_like(flat)
    for start, end in pairwise(_edges(len(metric))):
        half = metric[start:, start:end].to(rows.dtype, copy=True)
        half[: end - start] *= 0.5
        torch.mm(flat[:, start:], half, out=product[:, start:end])
    return product.reshape(rows.shape)


def _edges(width: int) -> list[int]:
    """Where the blocks begin and end."""
    return [width * i // BLOCKS for i in range(BLOCKS + 1)]


class SelfProduct(torch.autograd.Function):
    """G = AᵀA; a cotangent C of G becomes A (C + Cᵀ)."""

    @staticmethod
    def forward(a: Tensor) -> Tensor:
        """The blocks on and above the diagonal, and their mirror images."""
        width = a.shape[1]
        product = a.new_empty(width, width)
        for start, end in pairwise(_edges(width)):
            torch.mm(a[:, start:end].T, a[:, start:], out=product[start:end, start:])
            product[start:end, :start] = product[:start, start:end].T
        return product

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep A."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Tensor:
        """A (C + Cᵀ), by differentiable operations."""
        (a,) = ctx.saved_tensors
        return a @ (cotangent + cotangent.T)
