"""A VAE's head in float32 far from the codes that its quadratic was expanded around."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

import savi
from benchmarks.reference import minimiser
from benchmarks.safety.call import CALLS, Call
from benchmarks.safety.problem import Draw
from savi.gradients import StopGradient
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import LevenbergMarquardt
from savi.vae.build import build_vae
from savi.vae.data_fit import DataFit
from savi.vae.families import PointMassFamily
from savi.vae.model import GaussianVAE

LATENT = 3


class Decoder:
    """μ(z) = W₂ softplus(W₁z + b₁) + b₂ of the library's model, written out in float64."""

    def __init__(self, draw: Draw, size: int, gamma: float) -> None:
        fixed = {"mode": "fixed", "value": gamma, "floor": min(gamma, 1e-7)}
        layers = {"decoder": "mlp", "hidden": 24, "depth": 1, "activation": "softplus"}
        model = build_vae({**layers, "gamma": fixed, "latent_dim": LATENT}, (size,), 1.0)
        with torch.no_grad():
            for parameter in model.decoder.parameters():
                fan_in = parameter.shape[-1] if parameter.ndim == 2 else 4.0
                parameter.copy_(draw.normal(*parameter.shape) / fan_in**0.5)
        self.model: GaussianVAE = model
        self.gamma = gamma
        self.weights = [p.detach().double() for p in model.decoder.parameters()]

    def mean(self, z: Tensor) -> Tensor:
        """μ."""
        W1, b1, W2, b2 = self.weights
        return softplus(z @ W1.mT + b1) @ W2.mT + b2

    def negative_log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        """−log p(x, z), up to a constant."""
        fit = 0.5 * (x - self.mean(z)).square().sum(dim=-1) / self.gamma
        return fit + 0.5 * z.square().sum(dim=-1)

    def code(self, start: Tensor, x: Tensor) -> Tensor:
        """The MAP code that descent from ``start`` leads to."""
        return minimiser(lambda z, _: self.negative_log_joint(z, x), start[0], start)


@CALLS.register("head_far_away")
def head_far_away(seed: int) -> list[Call]:
    """∇ log p(x|z) by the head's quadratic, and the MAP code that a solve with it ends at.

    Controls: γ of 1 to 0.01 and few pixels, near the reference.
    """
    calls = []
    for index, (pixels, gamma, distance) in enumerate(
        [(784, g, r) for g in (1e-2, 1e-4, 1e-6) for r in (0.5, 3.0, 9.0)]
        + [(3072, g, 9.0) for g in (1e-2, 1e-4, 1e-6)]
        + [(d, g, r) for d in (8, 64) for g in (1.0, 0.1, 0.01) for r in (0.0, 0.3)]
    ):
        draw = Draw(seed, 27, index, dtype=torch.float32)
        calls.append(_head(draw, pixels, gamma, distance, well_posed=pixels < 100))
    return calls


def _head(draw: Draw, pixels: int, gamma: float, distance: float, *, well_posed: bool) -> Call:
    decoder, z = Decoder(draw, pixels, gamma), draw.normal(2, LATENT)
    mean = decoder.mean(z.double())
    x = (mean + gamma**0.5 * draw.normal(2, pixels).double()).float()
    reference = z + distance * normalize(draw.normal(2, LATENT), dim=-1)
    point = reference + 0.1 * draw.normal(2, LATENT)

    slope_at = point.double().requires_grad_()
    value = decoder.negative_log_joint(slope_at, x.double()) - 0.5 * slope_at.square().sum(dim=-1)
    (slope,) = torch.autograd.grad(-value.sum(), slope_at)
    solutions = [decoder.code(z[b : b + 1], x[b].double()) for b in range(2)]
    name = f"D = {pixels}, γ = {gamma:g}, {distance:g} from the reference"
    ask = _asked(decoder.model, x, reference, point, z)
    return Call(name, ask, [slope, torch.cat(solutions)], well_posed)


def _asked(
    model: GaussianVAE, x: Tensor, reference: Tensor, point: Tensor, start: Tensor
) -> Callable[[], list[Tensor]]:
    def ask() -> list[Tensor]:
        fit = DataFit.linear_head(model, x, reference)
        slope = fit.gradient(point)[1]
        noise = torch.zeros(1, *start.shape)
        objective = NegativeELBO(model, PointMassFamily(LATENT), fit, lambda step: noise)
        solution = savi.minimize(
            objective,
            start,
            optimizer=LevenbergMarquardt(),
            gradient=StopGradient(),
            max_steps=60,
            rtol=1e-5,
        )
        return [slope, solution.value]

    return ask
