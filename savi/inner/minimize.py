"""``savi.minimize``: a differentiable solution of a batch of small optimisation problems."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.gradients.base import GradientBackend
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective, ObjectiveFunction, as_objective
from savi.inner.optimizers.base import InnerOptimizer
from savi.inner.solution import Solution


def minimize(
    objective: InnerObjective | ObjectiveFunction,
    init: Float[Tensor, "B P"],
    *,
    optimizer: InnerOptimizer,
    gradient: GradientBackend,
    max_steps: int = 20,
    rtol: float = 1e-3,
    atol: float = 0.0,
) -> Solution:
    """Minimise J_b(y_b) over y_b for every example b, and make the minimiser differentiable.

    λK = argmin_y J(y; θ), started at λ0 = ``init``. J may close over any tensors θ that require
    gradients; ``gradient`` decides how dλK/dθ and dλK/dλ0 are computed.

    Each example is a problem of its own: its value, status and gradient do not depend on what
    else is in the batch, so J must return one value per example and never mix rows.

    Args:
        objective: a callable y [B, P] -> [B], or an :class:`InnerObjective` that supplies its own
            derivatives.
        init: λ0, shape [B, P]; may require grad.
        optimizer: the inner optimiser, e.g. ``GradientDescent(lr=0.1)`` or
            ``LevenbergMarquardt()``.
        gradient: the gradient backend, e.g. ``Unrolled()`` or ``Implicit(solver="cholesky")``.
        max_steps: at most so many steps; 0 returns the start.
        rtol: stop an example at ‖∇J‖ ≤ atol + rtol ‖∇J(λ0)‖.
        atol: see ``rtol``.

    Returns:
        A :class:`Solution`. An example whose objective became non-finite, or would end above its
        start, is returned at its best iterate with status ``DIVERGED``.

    Raises:
        InputError: for a start that is not a floating-point matrix, an objective that does not
            return one value per example, negative ``max_steps``, ``rtol`` or ``atol``, or a
            backend that the objective does not allow.
    """
    if init.ndim != 2 or not init.is_floating_point():
        raise InputError(
            f"init has shape {tuple(init.shape)} and type {init.dtype}: give a floating-point "
            "matrix [B, P], one row of P variables per example"
        )
    loop = InnerLoop(optimizer, max_steps=max_steps, rtol=rtol, atol=atol)
    differentiable = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    problem = as_objective(objective)
    # Validation loops disable gradients, and Trainer.test even records inference tensors: the
    # inner solve needs gradients in y all the same.
    with torch.inference_mode(False), torch.enable_grad(), _full_precision(init.device.type):
        start = init.clone() if init.is_inference() else init
        return gradient.solve(loop, problem, start, differentiable)


def _full_precision(device_type: str) -> torch.autocast:
    """Keep the inner loop out of an outer autocast: bf16 inside costs accuracy for no speed."""
    return torch.autocast(device_type, enabled=False)
