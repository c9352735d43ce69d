"""A function of a perceptron's output to second order in its input, without a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.vae.perceptron import Pass

#: Vectors ↦ their images by a symmetric matrix M, or by a K with M = K + Kᵀ.
Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Expansion:
    """f(h_L(z)) to second order at the z of a pass, for an f with ∇f = c and ∇²f = M at h_L.

    With c_l = ∂f/∂h_l, an affine map adds no curvature, and an elementwise one the weights
    w_l = c_l ∘ φ_l''(a_l) to the diagonal.

    Attributes:
        passed: the pass.
        weights: w_l of every layer, and None for the affine ones.
        slope: ∇_z f = c_0.
    """

    passed: Pass
    weights: list[Tensor | None]
    slope: Float[Tensor, "*batch d"]

    @classmethod
    @torch.no_grad()
    def of(cls, passed: Pass, c: Float[Tensor, "*batch F"]) -> Expansion:
        """With the cotangents c_L = c and c_{l−1} = W_lᵀ(φ_l' ∘ c_l)."""
        layers = passed.network.layers
        weights: list[Tensor | None] = [None] * len(layers)
        for i in reversed(range(len(layers))):
            second = layers[i].second_derivative
            if second is not None:
                weights[i] = c * second(passed.inputs[i], passed.outputs[i])
            c = passed.through(i, c) @ layers[i].affine.weight
        return cls(passed, weights, c)

    @torch.no_grad()
    def hessian(self, half: Map, dtype: torch.dtype | None = None) -> Float[Tensor, "*batch d d"]:
        """∇²_z f = Jᵀ M J + Σ_l S_lᵀ diag(w_l) S_l with the tangents S_l = ∂a_l/∂z.

        All d tangents go through the chain once, where d Hessian-vector products would take four
        passes each.

        Args:
            half: v ↦ K v with K + Kᵀ = M.
            dtype: that of the tangents, by default z's; products are summed up in z's.
        """
        z, layers = self.passed.z, self.passed.network.layers
        tangents = self.passed.tangents(z.dtype if dtype is None else dtype)
        last = len(tangents) - 1
        # Jᵀ K J = S_Lᵀ [diag(φ') K diag(φ') S_L], and the sum's last term begins with S_Lᵀ too.
        left = self.passed.scaled(last, half(self.passed.scaled(last, tangents[last])))
        hessian: Tensor | float = 0.0
        for i, (s, weight) in enumerate(zip(tangents, self.weights, strict=True)):
            if weight is None:
                continue
            if i == last:
                left = torch.addcmul(left, s, weight.to(s.dtype).unsqueeze(-2), value=0.5)
            elif i == 0:
                hessian = hessian + _weighted_gram(layers[i].affine.weight, weight)
            else:
                s = s.to(z.dtype)
                hessian = hessian + (s * weight.unsqueeze(-2)) @ s.mT
        form = left.to(z.dtype) @ tangents[last].mT.to(z.dtype)
        return form + form.mT + hessian

    @torch.no_grad()
    def product(self, metric: Map) -> Map:
        """The map v ↦ ∇²_z f v, at the price of a gradient (Pearlmutter 1994).

        A tangent goes up, ȧ_l = W_l ḣ_{l−1} and ḣ_l = φ_l' ∘ ȧ_l from ḣ_0 = v, and the change of
        the cotangents comes down, ċ_{l−1} = W_lᵀ(φ_l' ∘ ċ_l + w_l ∘ ȧ_l) from ċ_L = M ḣ_L.

        Args:
            metric: v ↦ M v.
        """
        matrices = [layer.affine.weight.detach() for layer in self.passed.network.layers]
        factors = [self.passed.factor(i) for i in range(len(matrices))]

        @torch.no_grad()
        def product(v: Tensor) -> Tensor:
            rates = []
            for matrix, factor in zip(matrices, factors, strict=True):
                rates.append(v @ matrix.mT)
                v = rates[-1] if factor is None else rates[-1] * factor
            v = metric(v)
            for i in reversed(range(len(matrices))):
                factor, weight = factors[i], self.weights[i]
                v = v if factor is None else v * factor
                v = v if weight is None else torch.addcmul(v, weight, rates[i])
                v = v @ matrices[i]
            return v

        return product


def _weighted_gram(
    weight: Float[Tensor, "*R F d"], diagonal: Float[Tensor, "*batch F"]
) -> Float[Tensor, "*batch d d"]:
    """Wᵀ diag(w) W for many w: one product with the F outer products of rows of W."""
    d = weight.shape[-1]
    outer = (weight.unsqueeze(-1) * weight.unsqueeze(-2)).flatten(-2)
    return (diagonal @ outer).unflatten(-1, (d, d))
