"""The outer steps that are timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from benchmarks.decoder import DecoderBatch, descent
from benchmarks.step.uncertified import UnjudgedCholesky
from savi._minimize import minimize
from savi.gradients import BACKENDS, GradientBackend, Implicit, StopGradient
from savi.inner import InnerOptimizer, LevenbergMarquardt
from savi.inner.anchored import Proximal

#: The backends that are compiled; the code of the first serves the second too.
COMPILED = ("ift", "unrolled")
UNCERTIFIED = "ift without certificate"

OuterStep = Callable[[], object]


class Variant(NamedTuple):
    """One way to take an outer step.

    Attributes:
        part: of the benchmark: ``backends``, ``certificate`` or ``compile``.
        name: the backend.
        steps: K.
    """

    part: str
    name: str
    steps: int


def variants(batch: DecoderBatch, config: Mapping[str, Any]) -> dict[Variant, OuterStep]:
    """Every variant, as a function that takes the step: its forward and its backward.

    Args:
        batch: the decoder and the data.
        config: ``steps``, ``lr``, ``momentum``, ``newton_steps``, ``rho``, ``compile``.

    Raises:
        InputError: for values out of range.
    """
    momentum, newton = descent(config), LevenbergMarquardt()
    backends = {name: cls() for name, cls in BACKENDS.items()}
    calls: dict[Variant, OuterStep] = {}
    for steps in config["steps"]:
        for name, backend in backends.items():
            calls[Variant("backends", name, steps)] = _outer_step(batch, backend, momentum, steps)
    if config["compile"]:
        for name in COMPILED:
            calls[Variant("compile", name, config["steps"][-1])] = _outer_step(
                batch, backends[name], momentum, config["steps"][-1], compile=True
            )
    steps, rho = config["newton_steps"], config["rho"]
    bare = Implicit(solver=UnjudgedCholesky(), certify=False)
    calls |= {
        Variant("certificate", "stop", steps): _outer_step(
            batch, StopGradient(), newton, steps, rho=rho
        ),
        Variant("certificate", UNCERTIFIED, steps): _outer_step(
            batch, bare, newton, steps, rho=rho
        ),
        Variant("certificate", "ift", steps): _outer_step(
            batch, Implicit(), newton, steps, rho=rho
        ),
    }
    return calls


def _outer_step(
    batch: DecoderBatch,
    backend: GradientBackend,
    optimizer: InnerOptimizer,
    steps: int,
    *,
    rho: float | None = None,
    compile: bool = False,
) -> OuterStep:
    """K inner steps on the ELBO, or at most K on the proximal objective with weight ρ."""

    def take() -> object:
        objective = batch.objective()
        solution = minimize(
            objective if rho is None else Proximal(objective, batch.init, rho),
            batch.init,
            optimizer=optimizer,
            gradient=backend,
            max_steps=steps,
            rtol=0.0 if rho is None else 1e-3,
            compile=compile,
        )
        loss = objective(solution.value).mean()
        return torch.autograd.grad(loss, batch.leaves, allow_unused=True)

    return take
