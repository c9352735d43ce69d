"""The head's quadratic far from the codes that it was expanded around, in float32."""

import pytest
import torch

import savi
from savi.gradients import StopGradient
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import LevenbergMarquardt
from savi.vae.build import build_vae
from savi.vae.data_fit import DataFit
from savi.vae.distributions import common_noise
from savi.vae.families import DiagonalGaussianFamily

LATENT, DATA, BATCH = 4, 3072, 8


def decoder(gamma):
    torch.manual_seed(0)
    fixed = {"mode": "fixed", "value": gamma, "floor": min(gamma, 1e-7)}
    layers = {"decoder": "mlp", "hidden": 64, "depth": 2, "activation": "softplus"}
    model = build_vae({**layers, "gamma": fixed, "latent_dim": LATENT}, (DATA,), 1.0)
    z = torch.randn(BATCH, LATENT)
    with torch.no_grad():
        mean = model.decode(z)
    return model, z, mean + gamma**0.5 * torch.randn_like(mean)


@pytest.mark.parametrize("gamma", [1e-2, 1e-6])
@pytest.mark.parametrize("distance", [0.5, 9.0])
def test_a_solve_far_from_the_reference_has_the_value_of_the_whole_decoder(gamma, distance):
    model, z, x = decoder(gamma)
    start = z + distance * torch.nn.functional.normalize(torch.randn_like(z), dim=-1)
    init = torch.cat([start, torch.full_like(z, -8.0)], dim=-1)
    noise = common_noise(2, z)(0)
    objective = NegativeELBO(
        model,
        DiagonalGaussianFamily(LATENT),
        DataFit.linear_head(model, x, start),
        lambda step: noise,
    )
    solution = savi.minimize(
        objective,
        init,
        optimizer=LevenbergMarquardt(),
        gradient=StopGradient(),
        max_steps=60,
        rtol=1e-4,
    )
    exact = NegativeELBO(
        model.double(),
        DiagonalGaussianFamily(LATENT),
        DataFit.direct(model, x.double()),
        lambda step: noise.double(),
    ).value(solution.value.double())
    assert (solution.status == savi.Status.CONVERGED).all()
    torch.testing.assert_close(solution.objective.double(), exact, rtol=0.0, atol=0.05)


@pytest.mark.parametrize("distance", [0.0, 1e-3, 1.0, 9.0])
def test_gradients_are_those_of_the_whole_decoder_at_any_distance(distance):
    model, z, x = decoder(1e-4)
    exact = DataFit.direct(model.double(), x.double()).gradient(z.double() + distance)
    model.float()
    for fit in (DataFit.linear_head(model, x, z), DataFit.linear_head(model, x, z + 9.0)):
        value, gradient = fit.gradient(z + distance)
        scale = exact[1].abs().amax()
        torch.testing.assert_close(value.double(), exact[0], rtol=1e-5, atol=0.05)
        torch.testing.assert_close(gradient.double() / scale, exact[1] / scale, rtol=0, atol=1e-3)
