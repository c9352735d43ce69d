"""Steps that a backward repeats, in float32 and past convergence: nothing is decided anew."""

import pytest
import torch

from savi.experiments.build import build


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
