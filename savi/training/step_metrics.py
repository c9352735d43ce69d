"""The figures of a training step and of an evaluated batch, by name."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from savi.inference.semi_amortized import Inference
from savi.inner.solution import Solution, Status
from savi.vae.elbo import Bound
from savi.vae.model import VAE


def training_metrics(model: VAE, bound: Bound, inference: Inference) -> dict[str, Tensor]:
    """What a training batch shows before its backward; warns where most inner solves diverge."""
    values = {name: value.detach() for name, value in bound_metrics("train", model, bound).items()}
    if inference.solution is not None:
        values |= inner_metrics(inference.solution)
        if (inference.solution.status == Status.DIVERGED).float().mean() > 0.5:
            warnings.warn(f"most inner solves diverge. {Status.DIVERGED.advice}", stacklevel=2)
    return values


def bound_metrics(split: str, model: VAE, bound: Bound) -> dict[str, Tensor]:
    """The bound and its terms, averaged over a batch, and what the likelihood has of its own."""
    values = {
        f"{split}/elbo": bound.elbo.mean(),
        f"{split}/reconstruction": bound.reconstruction.mean(),
        f"{split}/kl": bound.kl.mean(),
    }
    if bound.importance_weighted is not None:
        values[f"{split}/iwae"] = bound.importance_weighted.mean()
    return values | {f"{split}/{name}": v for name, v in model.likelihood.figures().items()}


def gradient_norms(model: VAE, encoder: nn.Module | None) -> dict[str, Tensor]:
    """The norms of the gradients that the backward has left."""
    norms = {}
    for name, module in (("decoder", model), ("encoder", encoder)):
        parameters = module.parameters() if module is not None else ()
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:
            norms[f"gradient/norm_{name}"] = torch.nn.utils.get_total_norm(gradients)
    return norms


def evaluation_metrics(
    split: str, model: VAE, inference: Inference, bound: Bound, initial: Bound
) -> dict[str, Tensor]:
    """What a batch of ``split`` shows, with the bounds at λK and at λ0."""
    values = bound_metrics(split, model, bound)
    if inference.solution is not None:
        values["inner/improvement"] = (bound.elbo - initial.elbo).mean()
    return values


def inner_metrics(solution: Solution) -> dict[str, Tensor]:
    """How the inner solves of a batch went."""
    return {
        "inner/steps": solution.steps.float().mean(),
        "inner/stationarity": solution.stationarity.median(),
        "inner/converged": (solution.status == Status.CONVERGED).float().mean(),
    }
