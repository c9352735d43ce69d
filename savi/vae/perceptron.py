"""Closed-form derivatives of chains of affine maps and elementwise nonlinearities.

Autograd answers one cotangent at a time and keeps a graph for it. A chain needs neither: its
forward pass holds all that its derivatives are made of, up to the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.vae.networks.activations import Derivative, activation_of
from savi.vae.networks.base import is_plain, leaves
from savi.vae.networks.stacked import StackedLinear


@dataclass(frozen=True)
class Layer:
    """h ↦ φ(W h + b), and the derivatives of φ; without a φ the map is affine."""

    affine: nn.Linear | StackedLinear
    apply: nn.Module | None = None
    derivative: Derivative | None = None
    second_derivative: Derivative | None = None


@dataclass(frozen=True)
class Perceptron:
    """h_0 = z, a_l = W_l h_{l−1} + b_l, h_l = φ_l(a_l), for l = 1, …, L.

    Of stacked layers there is one chain for each model, and z has the shape [..., R, B, d].
    """

    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, network: nn.Module) -> Perceptron | None:
        """The chain that a network or nested ``nn.Sequential`` is, or None if it is no chain.

        Hooks and parametrisations are the user's own code: with any, it is another one.
        """
        layers: list[Layer] = []
        for module in leaves(network):
            if not is_plain(module):
                return None
            if type(module) is nn.Linear or type(module) is StackedLinear:
                layers.append(Layer(module))
            elif type(module) is not nn.Identity:
                activation = activation_of(module)
                if activation is None or not layers or layers[-1].apply is not None:
                    return None
                derivatives = activation.derivative, activation.second_derivative
                layers[-1] = Layer(layers[-1].affine, module, *derivatives)
        return cls(tuple(layers)) if layers else None

    def __call__(self, z: Float[Tensor, "*batch d"]) -> Pass:
        """The forward pass at z."""
        h, inputs, outputs = z, [], []
        for layer in self.layers:
            a = layer.affine(h)
            h = a if layer.apply is None else layer.apply(a)
            inputs.append(a)
            outputs.append(h)
        return Pass(self, z, inputs, outputs)

    def below_head(self) -> Perceptron:
        """The layers below the last one."""
        return Perceptron(self.layers[:-1])


@dataclass(frozen=True)
class Pass:
    """A forward pass at z, and the derivatives there: differentiable, but for the tangents.

    ``inputs`` are a_1, …, a_L and ``outputs`` h_1, …, h_L; ``known`` are the tangents S_1ᵀ, …, S_Lᵀ
    if somebody has computed them.
    """

    network: Perceptron
    z: Float[Tensor, "*batch d"]
    inputs: list[Tensor]
    outputs: list[Tensor]
    known: list[Tensor] | None = None

    @property
    def value(self) -> Float[Tensor, "*batch F"]:
        """h_L."""
        return self.outputs[-1]

    def reshape(self, batch: Sequence[int]) -> Pass:
        """That of the same codes in another shape."""
        z, *others = (t.reshape(*batch, -1) for t in (self.z, *self.inputs, *self.outputs))
        depth = len(self.inputs)
        return Pass(self.network, z, others[:depth], others[depth:])

    def below_head(self) -> Pass:
        """That of the layers below the last one."""
        return Pass(self.network.below_head(), self.z, self.inputs[:-1], self.outputs[:-1])

    def pull_back(self, c: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch d"]:
        """Jᵀc with J = ∂h_L/∂z: c ← W_lᵀ(φ_l'(a_l) ∘ c) from the last layer to the first."""
        for i in reversed(range(len(self.inputs))):
            c = self.through(i, c) @ self.network.layers[i].affine.weight
        return c

    @torch.no_grad()
    def jacobian(self, dtype: torch.dtype | None = None) -> Float[Tensor, "*batch d F"]:
        """Jᵀ: row i is the derivative of h_L in z_i; computed in ``dtype``, by default in z's."""
        dtype = self.z.dtype if dtype is None else dtype
        *_, s = self.tangents(dtype)
        factor = self.factor(len(self.inputs) - 1)
        if factor is None:
            return s
        factor = factor.to(dtype).unsqueeze(-2)
        # S_L of a chain of one layer is a view of its weights.
        return s * factor if len(self.inputs) == 1 else s.mul_(factor)

    def factor(self, i: int) -> Tensor | None:
        """φ_l'(a_l); None where the layer is affine."""
        derivative = self.network.layers[i].derivative
        return None if derivative is None else derivative(self.inputs[i], self.outputs[i])

    def through(self, i: int, c: Tensor) -> Tensor:
        """φ_l'(a_l) ∘ c."""
        factor = self.factor(i)
        return c if factor is None else c * factor

    def scaled(self, i: int, rows: Float[Tensor, "*batch d F"]) -> Float[Tensor, "*batch d F"]:
        """Every row times φ_l'(a_l)."""
        factor = self.factor(i)
        return rows if factor is None else rows * factor.to(rows.dtype).unsqueeze(-2)

    def tangents(self, dtype: torch.dtype) -> list[Tensor]:
        """S_lᵀ of every layer; that of the first is W_1ᵀ, whatever z is."""
        if self.known is not None:
            return self.known
        found: list[Tensor] = []
        for i, layer in enumerate(self.network.layers):
            weight = layer.affine.weight.to(dtype)
            if not found:
                # Rows that lie in memory as rows: they are scaled for every example.
                rows = weight.mT.contiguous().unsqueeze(-3)
                found.append(rows.expand(*self.z.shape, -1))
                continue
            # One product with all rows of a batch, whose weights may have a model's axis as well.
            rows = self.scaled(i - 1, found[-1]).flatten(-3, -2) @ weight.mT
            found.append(rows.unflatten(-2, self.z.shape[-2:]))
        return found
