"""``savi.minimize``: a differentiable solution of a batch of small optimisation problems."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch.autograd import forward_ad

from savi.errors import InputError
from savi.gradients.base import GradientBackend
from savi.inner.loop import JUDGED, InnerLoop
from savi.inner.objective import AnyObjective, InnerObjective, as_objective
from savi.inner.optimizers.base import InnerOptimizer
from savi.inner.precision import OrdinaryTensors, full_precision
from savi.inner.solution import Solution
from savi.types import Rows


def minimize(
    objective: AnyObjective,
    init: Rows,
    *,
    optimizer: InnerOptimizer,
    gradient: GradientBackend,
    max_steps: int = 20,
    rtol: float = 1e-3,
    atol: float = 0.0,
    compile: bool = False,
    last_step: str = JUDGED,
) -> Solution:
    """Minimise J_b(y_b) over y_b for every example b, and make the minimiser differentiable.

    λK = argmin_y J(y; θ), started at λ0 = ``init``. J may close over any tensors θ that require
    gradients; ``gradient`` decides how dλK/dθ and dλK/dλ0 are computed.

    Each example is a problem of its own: its value, status and gradient do not depend on what
    else is in the batch, so J must return one value per example and never mix rows. (One limit:
    where J, or a derivative that a step uses, is not finite at the very start, a θ that examples
    share receives NaN from such an example, as it does from any loss.)

    Per-example ridge regression with a penalty learned on held-out data, without any VAE::

        def ridge(w):  # features x [B, N, P], targets t [B, N]; one weight vector per example
            error = (x @ w.unsqueeze(-1)).squeeze(-1) - t
            return error.square().sum(-1) + log_penalty.exp() * w.square().sum(-1)

        solution = savi.minimize(
            ridge, torch.zeros(B, P), optimizer=LevenbergMarquardt(), gradient=Implicit()
        )
        held_out = (x_val @ solution.value.unsqueeze(-1)).squeeze(-1) - t_val
        held_out.square().mean().backward()  # fills log_penalty.grad

    Args:
        objective: a callable y [B, P] -> [B], or an :class:`InnerObjective` that supplies its own
            derivatives.
        init: λ0, shape [B, P]; may require grad. A half-precision start (an encoder's output
            under autocast) is solved and returned in float32.
        optimizer: the inner optimiser, e.g. ``GradientDescent(lr=0.1)`` or
            ``LevenbergMarquardt()``.
        gradient: the gradient backend, e.g. ``Unrolled()`` or ``Implicit(solver="cholesky")``.
        max_steps: at most so many steps; 0 returns the start.
        rtol: stop an example at ‖∇J‖ ≤ atol + rtol ‖∇J(λ0)‖.
        atol: see ``rtol``.
        compile: evaluate J and ∇J in the loop by ``torch.compile``, where the backend allows it:
            faster once it is compiled, which takes seconds. J must consist of torch operations.
        last_step: ``judged`` as all others; or taken on trust, to save the evaluation of J and ∇J
            at λK (``trusted``) or to use it for the record alone (``measured``). On trust an
            example may end above its start, and what nobody measured is NaN.

    Returns:
        A :class:`Solution`. An example whose objective became non-finite, or would end above its
        start, is returned at its best iterate with status ``DIVERGED``; ``reason`` says why each
        example ended.

    Raises:
        InputError: for a start that is not a floating-point matrix, an objective that does not
            return one value per example or loses λ, forward-mode differentiation or a transform of
            ``torch.func`` around the call, negative ``max_steps``, ``rtol`` or ``atol``, an
            unknown ``last_step``, or an optimiser or a backend that the objective or the last step
            does not allow.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise InputError(
            "savi.minimize cannot run inside torch.func.grad, vmap or jvp: give it the whole "
            "batch, and differentiate by backward or torch.autograd.grad"
        )
    if init.ndim != 2 or init.shape[1] == 0 or not init.is_floating_point():
        raise InputError(
            f"init has shape {tuple(init.shape)} and type {init.dtype}: give a floating-point "
            "matrix [B, P], one row of P variables per example"
        )
    for name, given, kind in (
        ("optimizer", optimizer, InnerOptimizer),
        ("gradient", gradient, GradientBackend),
    ):
        if not isinstance(given, kind):
            raise InputError(
                f"{name} is {given!r}: give an instance of a {kind.__name__}, not its name or class"
            )
    inference = torch.is_inference_mode_enabled()
    # There, copies of tensors are made by a mode that a compiled graph would not see.
    loop = InnerLoop(optimizer, max_steps, rtol, atol, compile and not inference, last_step)
    differentiable = torch.is_grad_enabled() and not inference
    problem = as_objective(objective)
    optimizer.check(problem)
    gradient.check(optimizer, problem, compiled=compile, trusting=last_step != JUDGED)
    if not gradient.forward_mode:
        _refuse_forward_mode(problem, init)
    # Validation loops disable gradients, and Trainer.test even records inference tensors: the
    # inner solve needs gradients in y all the same.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        full_precision(init.device.type),
        OrdinaryTensors() if inference else nullcontext(),
    ):
        # A copy: the solution must never be an alias of a parameter that is updated later.
        start = init.float() if init.dtype in (torch.float16, torch.bfloat16) else init.clone()
        # With its graph: what a constraint does to the start, every backend must differentiate.
        return gradient.solve(loop, problem, problem.project(start), differentiable)


def _refuse_forward_mode(problem: InnerObjective, init: Rows) -> None:
    """Refuse tangents, which steps that are not differentiated by autograd itself lose.

    Raises:
        InputError: if λ0 or the objective carries one.
    """
    if forward_ad._current_level < 0:
        return
    moving = (init, *problem.gradient(init.detach(), create_graph=True))
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in moving):
        raise InputError(
            "savi.minimize cannot run under forward-mode differentiation (torch.autograd."
            "forward_ad) with this backend: differentiate by backward or torch.autograd.grad, take "
            "'unrolled', or give the solution to savi.implicit.root, which has both modes"
        )
