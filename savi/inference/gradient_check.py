"""How far the gradient of a run is from a reference, on a batch that never changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError, unknown_option
from savi.gradients import Implicit, Unrolled
from savi.inference.outer_loss import OuterLoss, OuterStep
from savi.inference.semi_amortized import Inference, SemiAmortizedInference
from savi.vae.distributions import NoiseSchedule
from savi.vae.model import KLWeight

#: The gradient of the outer loss as one vector for θ ("decoder": the decoder and γ) and, where
#: there is an encoder, one for φ ("encoder").
Gradient = dict[str, Tensor]


@dataclass(frozen=True)
class ProbeBatch:
    """A batch with all the noise of its outer loss, so that the loss is a function of θ and φ.

    Attributes:
        x: the observations.
        inner_noise: the noise of the inner problem.
        outer_noise: the noise of the bound.
    """

    x: Float[Tensor, "B D"]
    inner_noise: NoiseSchedule
    outer_noise: Float[Tensor, "S B d"]

    @classmethod
    def draw(cls, x: Float[Tensor, "B D"], outer: OuterLoss, seed: int) -> ProbeBatch:
        """The probe of a seed, without touching the global source of noise."""
        generator = torch.Generator().manual_seed(seed)
        like = torch.empty(len(x), outer.inference.family.latent_dim, dtype=x.dtype)
        inner_noise = outer.inference.draw_noise(like, generator)
        return cls(x, inner_noise, outer.draw_noise(like, generator))

    def to(self, like: Tensor) -> ProbeBatch:
        """The same numbers in the float type, and on the device, of another tensor."""
        return ProbeBatch(
            self.x.to(like), lambda step: self.inner_noise(step).to(like), self.outer_noise.to(like)
        )

    def step(self, outer: OuterLoss, beta: KLWeight) -> OuterStep:
        """The outer loss of the probe."""
        return outer(self.x, beta, inner_noise=self.inner_noise, outer_noise=self.outer_noise)


def outer_gradient(
    outer: OuterLoss,
    probe: ProbeBatch,
    beta: KLWeight,
    precision: AbstractContextManager[None] | None = None,
    scale: float = 1.0,
) -> tuple[Gradient, Inference]:
    """The gradient that a training step on the probe would compute; no ``.grad`` is touched.

    Args:
        outer: the outer loss.
        probe: the batch and its noise.
        beta: the weight of the KL term.
        precision: the autocast region of the forward pass, if there is one.
        scale: what the loss is multiplied by in the backward pass (float16 needs it).
    """
    modules = {"decoder": outer.model, "encoder": outer.inference.encoder}
    groups = {
        name: [parameter for parameter in module.parameters() if parameter.requires_grad]
        for name, module in modules.items()
        if module is not None
    }
    probe = probe.to(next(outer.model.parameters()))
    with precision or nullcontext():
        step = probe.step(outer, beta)
    gradients = torch.autograd.grad(
        scale * step.loss, [*chain(*groups.values())], materialize_grads=True
    )
    vector = torch.cat([gradient.flatten() for gradient in gradients]) / scale
    sizes = [sum(parameter.numel() for parameter in group) for group in groups.values()]
    return dict(zip(groups, vector.split(sizes), strict=True)), step.inference


def _solution(inference: SemiAmortizedInference) -> None:
    """Solve to the limits of float64, and differentiate by the implicit function theorem."""
    inference.solve_exactly(Implicit("cholesky", max_stationarity=1e-6), max_steps=1000, rtol=1e-10)


def _same_steps(inference: SemiAmortizedInference) -> None:
    """Take the run's own steps, and differentiate each of them."""
    inference.backend = Unrolled()


#: What each reference changes in a copy of the run's inference.
REFERENCES: dict[str, Callable[[SemiAmortizedInference], None]] = {
    "ift": _solution,
    "unrolled": _same_steps,
}


def check_reference(reference: str, inference: SemiAmortizedInference) -> None:
    """Refuse a reference that a run's inference cannot be compared with.

    Raises:
        InputError: for an unknown reference, no inner steps, or ``ift`` with fresh noise.
    """
    if reference not in REFERENCES:
        raise unknown_option("reference", reference, REFERENCES)
    if inference.max_steps == 0:
        raise InputError(
            "callbacks.gradient_check_every_n_steps with inner.max_steps 0: there is no inner "
            "solve whose gradient could be wrong, so set inner.max_steps to 1 or more, or "
            "callbacks.gradient_check_every_n_steps=null"
        )
    if reference == "ift" and inference.noise_name == "fresh":
        raise InputError(
            "callbacks.gradient_check_reference 'ift' with inner.noise 'fresh': an objective that "
            "is redrawn at every step has no solution, so set inner.noise=crn or "
            "callbacks.gradient_check_reference=unrolled"
        )


def reference_gradient(
    outer: OuterLoss, probe: ProbeBatch, beta: KLWeight, reference: str
) -> tuple[Gradient, Inference]:
    """The gradient by one of :data:`REFERENCES`, on a copy of the modules in float64."""
    outer = copy.deepcopy(outer)
    parameter = next(outer.model.parameters())
    # Apple's GPUs have no float64.
    device = torch.device("cpu") if parameter.device.type == "mps" else parameter.device
    for module in (outer.model, outer.inference):
        module.to(device).double()
    # A reference is plain: nothing is gained by compiling what runs so seldom.
    outer.inference.compiled = False
    REFERENCES[reference](outer.inference)
    return outer_gradient(outer, probe, beta)


def compare(measured: Gradient, reference: Gradient) -> dict[str, float]:
    """Cosine g·r / (‖g‖‖r‖) and relative error ‖g − r‖ / ‖r‖ of a gradient g to a reference r.

    ``cosine_to_reference`` is that of all parameters together. A cosine is left out where one of
    the gradients is zero, a relative error where the reference is: they are not defined there.
    """
    pairs = {
        name: (measured[name].cpu().double(), r.cpu().double()) for name, r in reference.items()
    }
    metrics: dict[str, float] = {}
    for name, (g, r) in pairs.items():
        metrics |= _cosine(f"cosine_to_reference_{name}", g, r)
        if r.norm() != 0:
            metrics[f"relative_error_{name}"] = float((g - r).norm() / r.norm())
    everything = (torch.cat(vectors) for vectors in zip(*pairs.values(), strict=True))
    return metrics | _cosine("cosine_to_reference", *everything)


def _cosine(name: str, g: Tensor, r: Tensor) -> dict[str, float]:
    lengths = float(g.norm() * r.norm())
    return {name: float(g @ r) / lengths} if lengths != 0 else {}
