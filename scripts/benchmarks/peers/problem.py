"""The problem as arrays, which every system reads from one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.batch import DATA, TrainedBatch
from savi.errors import InputError
from savi.vae.build import build_vae
from savi.vae.perceptron import Perceptron

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Problem:
    """A decoder μ(z) = W softplus(… softplus(W₁ z + b₁) …) + b, its γ, and a batch of images.

    The inner problem is J_b(z) = ‖x_b − μ(z)‖² / 2γ + ½‖z‖², started at ``start``; the outer loss
    is L = (1/B) Σ_b [‖x_b − μ(z_b + s_b ∘ ε_b)‖² / 2γ + ½‖z_b‖²].
    """

    weights: tuple[Array, ...]  # W₁, b₁, …, W, b, as ``nn.Linear`` stores them
    gamma: float  # γ
    x: Array  # the images, [B, D]
    start: Array  # where the inner solves begin, [B, d]
    scale: Array  # s, [B, d]
    noise: Array  # ε, [B, d]

    @property
    def data_dim(self) -> int:
        """D."""
        return self.x.shape[1]

    @classmethod
    def of(cls, batch: TrainedBatch) -> Problem:
        """The arrays of a batch."""
        chain = Perceptron.of(batch.model.decoder)
        gamma = batch.model.gamma()
        hidden = [] if chain is None else chain.layers[:-1]
        if chain is None or not all(isinstance(layer.apply, nn.Softplus) for layer in hidden):
            raise InputError(
                "the other libraries are given a perceptron with softplus units, and this decoder "
                "is none: give a checkpoint with model=mlp and model.activation=softplus, or null"
            )
        if len(gamma) > 1:
            raise InputError(
                "the other libraries are given one γ, and this one has a value for every pixel: "
                "give a checkpoint with another model.gamma.mode, or null"
            )
        weights = tuple(weight.detach().numpy() for weight in batch.weights)
        return cls(weights, float(gamma), *(getattr(batch, name).numpy() for name in DATA))

    def batch(self, dtype: torch.dtype = torch.float32) -> TrainedBatch:
        """The same as tensors, with the decoder of this library."""
        hidden, latent_dim = self.weights[0].shape
        gamma = {"mode": "fixed", "value": self.gamma, "floor": self.gamma}
        values = {"decoder": "mlp", "latent_dim": latent_dim, "hidden": hidden, "gamma": gamma}
        values |= {"depth": len(self.weights) // 2 - 1, "activation": "softplus"}
        model = build_vae(values, (self.data_dim,), 1.0)
        with torch.no_grad():
            for parameter, weight in zip(model.decoder.parameters(), self.weights, strict=True):
                parameter.copy_(torch.from_numpy(weight))
        data = (torch.from_numpy(getattr(self, name)) for name in DATA)
        return TrainedBatch(model, *data).to(dtype)

    def save(self, path: Path) -> None:
        """Write an .npz file: W1, b1, …, W, b, gamma, x, start, scale, noise."""
        arrays: dict[str, Any] = dict(zip(_names(len(self.weights)), self.weights, strict=True))
        arrays |= {name: getattr(self, name) for name in ("gamma", *DATA)}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Problem:
        """Read what :meth:`save` wrote."""
        with np.load(path) as file:
            names = _names(len(file.files) - 1 - len(DATA))
            weights = tuple(file[name] for name in names)
            return cls(weights, float(file["gamma"]), *(file[name] for name in DATA))


def _names(count: int) -> list[str]:
    """W1, b1, W2, b2, …, W, b."""
    layers = [*map(str, range(1, count // 2)), ""]
    return [kind + layer for layer in layers for kind in "Wb"]
