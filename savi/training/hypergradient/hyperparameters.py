"""The hyperparameters that can be tuned, and where a module holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

#: Name -> where it is held: the path of a submodule of :class:`savi.training.SemiAmortizedVAE`, and
#: its attribute. All are above 0, and moved on a logarithmic scale.
HYPERPARAMETERS = {
    "gamma": ("vae.likelihood.gamma", "gamma"),
    "beta": ("", "kl_weight"),
    "rho": ("inference", "rho"),
    "weight_decay": ("", "weight_decay"),
}


def make_tunable(module: nn.Module, names: Iterable[str]) -> None:
    """Hold these hyperparameters as buffers, which are saved and loaded with the weights.

    A checkpoint then holds the tuned values, and whoever loads it infers with them: ρ is part of
    the inner problem that an evaluation solves.
    """
    for name in names:
        path, attribute = HYPERPARAMETERS[name]
        owner = module.get_submodule(path)
        value = getattr(owner, attribute)
        if not isinstance(value, Tensor):
            delattr(owner, attribute)
            owner.register_buffer(attribute, torch.tensor(float(value)))


def values(module: nn.Module, names: Iterable[str]) -> dict[str, float]:
    """What the module holds now."""
    return {name: float(_held(module, name)) for name in names}


@torch.no_grad()
def assign(module: nn.Module, new: Mapping[str, float]) -> None:
    """Replace what the module holds."""
    for name, value in new.items():
        _held(module, name).fill_(value)


def _held(module: nn.Module, name: str) -> Tensor:
    path, attribute = HYPERPARAMETERS[name]
    return getattr(module.get_submodule(path), attribute)
