"""Steps that a backward repeats, in float32 and past convergence: nothing is decided anew."""

import math

import pytest
import torch
from torch import nn

from savi._minimize import minimize
from savi.experiments.build import build
from savi.gradients import Checkpointed, Implicit
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import ChordLevenbergMarquardt, LevenbergMarquardt
from savi.vae import DECODERS, POSTERIORS, VARIANCES, GaussianVAE, short_format
from savi.vae.data_fit import DataFit


@pytest.mark.parametrize("optimizer", ["levenberg_marquardt", "chord", "newton", "lbfgs"])
def test_checkpointed_repeats_its_decisions(optimizer, config):
    """Whether J still falls at a minimum is a matter of rounding, which the graph changes."""
    gradients = {}
    for gradient in ("unrolled", "checkpointed"):
        data, module = build(
            config(
                "debug=quick", "data.limit=64", "model.hidden=32", "model.latent_dim=4",
                "inner.max_steps=12", "inner.rtol=0", f"inner.optimizer={optimizer}",
                f"gradient={gradient}",
            )
        )  # fmt: skip
        torch.manual_seed(0)
        module.outer_loss(data.split("train"), 1.0).loss.backward()
        gradients[gradient] = torch.cat([p.grad.flatten() for p in module.parameters()])
    error = (gradients["checkpointed"] - gradients["unrolled"]).norm()
    assert error < 1e-3 * gradients["unrolled"].norm()


@pytest.mark.parametrize("optimizer", [LevenbergMarquardt(), ChordLevenbergMarquardt()])
@pytest.mark.parametrize(
    "gradient", [Checkpointed(), Implicit(on_failure="fallback", max_error=math.inf)]
)
def test_steps_that_are_repeated_know_no_short_format(optimizer, gradient, monkeypatch):
    """Where matrices that only steer are rounded, a graph, which is not, would lead elsewhere."""
    monkeypatch.setattr(short_format, "has_short_products", lambda: True)
    torch.manual_seed(0)
    decoder = DECODERS["mlp"](3, (40,), hidden=8, depth=2, activation="softplus")
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.6)
    model = GaussianVAE(decoder, VARIANCES["fixed"](40, 0.01), 3)
    fit = DataFit.direct(model, torch.randn(6, 40))
    noise = torch.zeros(1, 6, 3)
    objective = NegativeELBO(model, POSTERIORS["point_mass"](3), fit, lambda step: noise)
    solution = minimize(
        objective, torch.randn(6, 3), optimizer=optimizer, gradient=gradient, max_steps=2
    )
    solution.value.sum().backward()
    assert solution.certificate is None or bool(solution.certificate.failed.any())
