"""Semi-amortised inference for tests, in float64."""

from typing import Any

from linear_gaussian import LinearGaussian
from torch import nn

from savi.inference.semi_amortized import SemiAmortizedInference
from savi.vae import ENCODERS, POSTERIORS

INNER = {
    "objective": "elbo",
    "optimizer": "gd",
    "lr": 0.05,
    "max_steps": 3,
    "test_max_steps": None,
    "rtol": 0.0,
    "atol": 0.0,
    "rho": 1.0,
    "noise": "crn",
    "samples": 2,
}
MAP = {"objective": "map"}


def semi_amortized(
    posterior: str = "diagonal_gaussian",
    gradient: str = "unrolled",
    encoder: bool = True,
    **inner: Any,
) -> SemiAmortizedInference:
    """d = 3, D = 6, with a random affine encoder or none."""
    family = POSTERIORS[posterior](3)
    network: nn.Module | None = None
    if encoder:
        network = ENCODERS["mlp"]((6,), family.num_params, hidden=8, depth=0, activation="tanh")
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return SemiAmortizedInference(network, family, INNER | inner, {"name": gradient}).double()


def infer(inference: SemiAmortizedInference, problem: LinearGaussian, **options: Any):
    """λ0 and λK of all examples, after as many steps as in training."""
    options = {"max_steps": inference.max_steps} | options
    return inference(problem.model, problem.x, **options)
