"""The inner loop on a GPU: it does not wait for the device at every step."""

import warnings

import pytest
import torch
from inner_problems import Quadratic, randn, spd

import savi
from savi.gradients import StopGradient
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import GradientDescent
from savi.vae import DECODERS, POSTERIORS, VARIANCES, GaussianVAE
from savi.vae.data_fit import data_fit
from savi.vae.distributions import common_noise

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def solve(problem, init, steps: int, **options):
    return savi.minimize(
        problem,
        init,
        optimizer=GradientDescent(lr=1e-3),
        gradient=StopGradient(),
        max_steps=steps,
        rtol=0.0,
        **options,
    )


def decoded(device: str, linear_head: str) -> tuple[NegativeELBO, torch.Tensor]:
    torch.manual_seed(0)
    decoder = DECODERS["mlp"](3, (40,), hidden=8, depth=2, activation="softplus")
    model = GaussianVAE(decoder, VARIANCES["fixed"](40, 0.1), 3).to(device)
    x, z = torch.randn(6, 40).to(device), torch.randn(6, 3).to(device)
    family, noise = POSTERIORS["point_mass"](3), common_noise(1, z)
    fit = data_fit(model, x, z, codes=10_000, linear_head=linear_head)
    return NegativeELBO(model, family, fit, noise), z


def waits(steps: int) -> int:
    """How often the host waits for the device in a solve of so many steps."""
    problem, z = decoded("cuda", "auto")
    solve(problem, z, steps)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            solve(problem, z, steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in caught)


def test_a_fixed_number_of_steps_waits_as_often_as_one_step():
    assert waits(50) == waits(1)


@pytest.mark.parametrize("linear_head", ["auto", "off"])
def test_the_same_as_on_the_cpu(linear_head: str):
    on_gpu, on_cpu = (
        solve(*decoded(device, linear_head), 20).value.cpu() for device in ("cuda", "cpu")
    )
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-5)


def test_recorded_steps_are_the_same():
    problem = Quadratic(spd(5, 3).cuda(), randn(5, 3, seed=1).cuda())
    start = randn(5, 3, seed=2).cuda()
    plain, recorded = (solve(problem, start, 20, compile=compiled) for compiled in (False, True))
    torch.testing.assert_close(recorded.value, plain.value)
    torch.testing.assert_close(recorded.objective, plain.objective)
