"""The evaluation in feature space changes no gradient of any backend."""

import pytest
import torch
from semi_amortized import INNER
from torch import Tensor, nn

from savi.gradients import BACKENDS
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.vae import DECODERS, ENCODERS, POSTERIORS, VARIANCES, GaussianVAE
from savi.vae.distributions import common_noise

D, B = 40, 4


def outer_gradients(
    linear_head: str, backend: str, mode: str, objective: str, dtype: torch.dtype, **inner
) -> list[Tensor]:
    """Of a loss of λK in every parameter of decoder, γ and encoder."""
    torch.manual_seed(0)
    decoder = DECODERS["mlp"](2, (D,), hidden=6, depth=2, activation="softplus")
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    model = GaussianVAE(decoder, VARIANCES[mode](D, 0.3), 2).to(dtype)
    posterior = "point_mass" if objective == "map" else "diagonal_gaussian"
    family = POSTERIORS[posterior](2)
    encoder = ENCODERS["mlp"]((D,), family.num_params, hidden=6, depth=0, activation="tanh")
    settings = {"objective": objective, "linear_head": linear_head, "samples": 4, **inner}
    inference = SemiAmortizedInference(encoder, family, INNER | settings, {"name": backend})
    inference = inference.to(dtype)
    x, probe = torch.randn(B, D), torch.randn(B, family.num_params)
    noise = common_noise(4, torch.randn(B, 2))(0).to(dtype)
    value = inference(
        model, x.to(dtype), max_steps=inference.max_steps, noise=lambda step: noise
    ).value
    parameters = [*model.parameters(), *inference.parameters()]
    loss = (probe.to(dtype) * value).sum()
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [value, *(g for g in found if g is not None)]


def agree(a: list[Tensor], b: list[Tensor], allowed: float) -> None:
    assert len(a) == len(b) > 1
    for one, other in zip(a, b, strict=True):
        assert (one - other).norm() <= allowed * other.norm()


@pytest.mark.parametrize("mode", sorted(VARIANCES))
@pytest.mark.parametrize("backend", sorted(set(BACKENDS) - {"stop", "finite_difference"}))
@pytest.mark.parametrize("objective", ["proximal", "map"])
def test_every_backend_has_the_same_gradient(backend: str, mode: str, objective: str):
    descent = {"optimizer": "momentum", "lr": 1e-3, "max_steps": 6, "rtol": 0.0}
    newton = {"optimizer": "newton", "lr": None, "max_steps": 50, "rtol": 1e-11}
    inner = newton if backend in ("ift", "one_step") else descent
    found = [
        outer_gradients(head, backend, mode, objective, torch.float64, **inner)
        for head in ("auto", "off")
    ]
    agree(*found, allowed=1e-12 if inner is descent else 1e-8)


def test_differences_of_first_derivatives_agree_as_far_as_they_are_exact():
    inner = {"optimizer": "gd", "lr": 1e-3, "max_steps": 4, "rtol": 0.0}
    found = [
        outer_gradients(head, "finite_difference", "learned", "proximal", torch.float64, **inner)
        for head in ("auto", "off")
    ]
    agree(*found, allowed=1e-6)


def test_single_precision():
    inner = {"optimizer": "newton", "lr": None, "max_steps": 30, "rtol": 1e-6}
    found = [
        outer_gradients(head, "ift", "learned", "proximal", torch.float32, **inner)
        for head in ("auto", "off")
    ]
    agree(*found, allowed=1e-5)


@pytest.mark.parametrize("optimizer", ["chord", "newton", "lbfgs", "natural_gradient"])
def test_unrolled_second_order_steps(optimizer: str):
    inner = {"optimizer": optimizer, "lr": None, "max_steps": 3, "rtol": 0.0}
    found = [
        outer_gradients(head, "unrolled", "per_pixel", "proximal", torch.float64, **inner)
        for head in ("auto", "off")
    ]
    agree(*found, allowed=1e-9)
