"""The inner problem of the benchmark: the ELBO of a small decoder that is not affine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.decoder import drawn, untrained_decoder
from benchmarks.reference import hessian, minimiser
from savi._minimize import minimize
from savi.gradients import StopGradient
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import GradientDescent
from savi.vae.families import DiagonalGaussianFamily
from savi.vae.noise import common_noise


@dataclass(frozen=True)
class DecoderProblem:
    """J(λ; θ) = −L(θ, λ; x) for a batch of examples, which is also the outer loss.

    Attributes:
        objective: J, with its noise fixed, in float64.
        theta: the decoder's parameters θ.
        init: λ0.
        lr: a step size with which gradient descent converges.
        gradients: for each example, dJ(λ*(θ); θ)/dθ in one vector: at λ* it is the partial
            derivative, by the envelope theorem.
    """

    objective: NegativeELBO
    theta: Sequence[Tensor]
    init: Float[Tensor, "B P"]
    lr: float
    gradients: list[Float[Tensor, " Q"]]

    def theta_gradients(self, value: Float[Tensor, "B P"]) -> list[Float[Tensor, " Q"]]:
        """For each example, the gradient of J(``value``) in θ, through ``value`` too."""
        losses = self.objective(value)
        gradients = []
        for loss in losses:
            parts = torch.autograd.grad(loss, self.theta, retain_graph=True)
            gradients.append(torch.cat([part.flatten() for part in parts]))
        return gradients


def decoder_problem(config: Mapping[str, Any]) -> DecoderProblem:
    """An untrained decoder, data drawn from it, and the exact solution of every example.

    Args:
        config: ``seed``, ``examples``, ``latent_dim``, ``data_dim``, ``hidden``, ``depth``,
            ``activation``, ``gamma``, ``samples``.

    Raises:
        InputError: for what the decoder cannot be built from.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        vae = untrained_decoder(config).double()
        z = torch.randn(config["examples"], config["latent_dim"], dtype=torch.float64)
        x = drawn(vae, z)
        family = DiagonalGaussianFamily(config["latent_dim"])
        objective = NegativeELBO(vae, family, x, common_noise(config["samples"], z))
        init = 0.5 * torch.randn(config["examples"], family.num_params, dtype=torch.float64)
    theta = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    return _solved(objective, theta, init)


def _solved(objective: NegativeELBO, theta: Sequence[Tensor], init: Tensor) -> DecoderProblem:
    """The problem with its step size and its exact gradients."""

    def energy(index: int) -> Any:
        """J of one example."""
        rest = init.clone()
        return lambda y, _: objective(rest.index_copy(0, torch.tensor([index]), y))[index, None]

    none = init.new_zeros(0)
    sharpest = max(
        float(torch.linalg.eigvalsh(hessian(energy(b), y[None], none)).max())
        for b, y in enumerate(init)
    )
    descent = GradientDescent(lr=0.5 / sharpest)
    # Newton's method starts where the descent leads, so that both mean the same minimiser.
    near = minimize(
        objective, init, optimizer=descent, gradient=StopGradient(), max_steps=2000, rtol=1e-2
    ).value
    solution = torch.cat([minimiser(energy(b), none, y[None]) for b, y in enumerate(near)])
    problem = DecoderProblem(objective, theta, init, descent.lr, [])
    problem.gradients.extend(problem.theta_gradients(solution))
    return problem
