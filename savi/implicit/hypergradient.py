"""Gradients through the best response of a model's weights to its hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from savi.errors import InputError
from savi.implicit.adjoint import solve_and_look
from savi.implicit.hypergradient_certificate import (
    Answer,
    HypergradientCertificate,
    Limits,
    certify,
)
from savi.implicit.policy import OnFailure
from savi.implicit.weight_hessian import WeightHessian, flat, or_zeros
from savi.inner.precision import full_precision
from savi.linear import SOLVERS, LinearSolver, Nystrom
from savi.types import Scalar

#: What can be done about a broken condition.
POLICIES = (OnFailure.WARN, OnFailure.RAISE, OnFailure.SILENT)

#: The rank of the sketch of ``nystrom`` where it is chosen by its name: its own default, half of
#: the number of weights, costs as many products with the Hessian.
NYSTROM_RANK = 20


@dataclass(frozen=True)
class Hypergradient:
    """d outer(w*(h), h) / dh, with its certificate.

    Attributes:
        gradients: one tensor for each of ``hyper``, of its shape.
        direct: the part ∂outer/∂h of each, at constant weights; the rest goes through w*.
        certificate: whether the theorem's conditions hold.
    """

    gradients: tuple[Tensor, ...]
    direct: tuple[Tensor, ...]
    certificate: HypergradientCertificate


def hypergradient(
    inner: Scalar,
    outer: Scalar,
    weights: Sequence[Tensor],
    hyper: Sequence[Tensor],
    *,
    solver: str | LinearSolver = "cg",
    damping: float = 0.0,
    rtol: float = 1e-5,
    max_steps: int | None = None,
    max_stationarity: float = 0.1,
    max_residual: float = 1e-3,
    max_error: float = 1e-2,
    on_failure: str = "warn",
) -> Hypergradient:
    """Differentiate outer in h through the best response w*(h) = argmin_w inner(w, h).

    By the implicit function theorem for ∇_w inner(w, h) = 0, at weights w that minimise inner,

        d outer/dh = ∂outer/∂h − (∂∇_w inner/∂h)ᵀ H⁻¹ ∇_w outer,   H = ∇²_w inner,

    with one linear system for any number of hyperparameters. The iterative solvers need products
    with H only, each about two gradients of inner: ``neumann`` (Lorraine, Vicol and Duvenaud, arXiv
    1911.02590, 2019), ``cg``, and ``nystrom``, which uses the sketch of Hataya and Yamada (2023) as
    a preconditioner. ``cholesky`` and ``ldl`` form H, for small models.

    Both losses must have been computed with the same w and h: a change by an operation in place is
    refused by autograd, one through ``.data`` is seen by nobody.

    **What can go wrong.** The weights of a network that is trained by stochastic gradients are
    seldom a minimum: the gradient is not 0, and H is often indefinite. ``neumann``, ``cg`` and
    ``nystrom`` end at the first direction of negative curvature that they meet, with the iterate
    that they have; ``minres`` solves the system all the same, but then w* is no minimum and the
    answer no derivative of one. The damping δ solves with H + δI instead: the response of weights
    that are held back by ½δ‖w − w_now‖², biased towards the direct part most along directions with
    a curvature below δ. Ending the Neumann series after K steps of size η does nearly the same with
    δ about 1/(ηK). The certificate shows all of it, and ``on_failure`` says what to do.

    Args:
        inner: a scalar, the training loss with its graph to ``weights`` and ``hyper``. Its second
            derivatives must be right; backends that refuse them raise.
        outer: a scalar, such as the validation loss, with its graph.
        weights: w: tensors of one float type that both losses depend on.
        hyper: h: tensors that the losses depend on.
        solver: a linear solver's name, or the solver itself, with a stopping rule of its own.
        damping: δ, 0 or more.
        rtol: relative residual at which a solver named by ``solver`` stops.
        max_steps: its largest number of steps; None lets the solver choose.
        max_stationarity: the largest relative stationarity that counts as trained.
        max_residual: the largest relative residual that counts as solved.
        max_error: the largest estimated error that passes without a warning. Unless it is infinite,
            weights that are not quite at the minimum cost two more linear solves, third derivatives
            of inner and second ones of outer.
        on_failure: ``warn``, ``raise``, or ``silent``, which leaves it to the certificate.

    Returns:
        The gradients, detached; no ``.grad`` is touched, and both graphs are kept.

    Raises:
        InputError: for losses that are no scalars or have no graph to the weights, a hyperparameter
            that neither depends on, a solver that needs a Gauss–Newton matrix, or an option out of
            range.
        ImplicitGradientError: under ``raise``, if a condition of the theorem is broken.

    >>> X, y = torch.eye(2), torch.tensor([1.0, 2.0])
    >>> w = torch.tensor([0.5, 1.0], requires_grad=True)  # the minimiser for penalty = 1
    >>> penalty = torch.tensor(1.0, requires_grad=True)
    >>> inner = (X @ w - y).square().sum() + penalty * w.square().sum()
    >>> hypergradient(inner, w.sum(), [w], [penalty]).gradients  # w* = y / (1 + penalty)
    (tensor(-0.7500),)
    """
    policy = OnFailure.named(on_failure, POLICIES)
    _check(inner, outer, weights, hyper, damping)
    chosen = _solver(solver, rtol, max_steps, sum(w.numel() for w in weights))
    limits = Limits(max_stationarity, max_residual, max_error)
    # A caller may have switched gradients off once the losses were computed.
    with torch.enable_grad():
        of_inner = _partial(inner, weights, hyper, create_graph=True)
        of_outer = _partial(outer, weights, hyper)
        _require_used(of_inner, of_outer)
        hessian = WeightHessian.of(of_inner.weights, weights, damping)
        v = flat(of_outer.weights, weights)
    with torch.no_grad(), full_precision(v.device.type):
        linear = solve_and_look(chosen, hessian.operator(), v)
        response = hessian.pull_back(hyper, -linear.value)
        answer = Answer(outer, hyper, of_outer.hyper, response)
        certificate = certify(hessian, linear, v, answer, chosen, limits)
    certificate.report(policy)
    direct = tuple(or_zeros(of_outer.hyper, hyper))
    moved = or_zeros(response, hyper)
    return Hypergradient(
        tuple(d + r for d, r in zip(direct, moved, strict=True)), direct, certificate
    )


class _Partial(NamedTuple):
    """The derivatives of a loss; None for what it does not depend on."""

    weights: tuple[Tensor | None, ...]
    hyper: tuple[Tensor | None, ...]


def _partial(
    loss: Tensor, weights: Sequence[Tensor], hyper: Sequence[Tensor], create_graph: bool = False
) -> _Partial:
    found = torch.autograd.grad(
        loss, [*weights, *hyper], retain_graph=True, create_graph=create_graph, allow_unused=True
    )
    return _Partial(found[: len(weights)], found[len(weights) :])


def _check(
    inner: Tensor, outer: Tensor, weights: Sequence[Tensor], hyper: Sequence[Tensor], damping: float
) -> None:
    for name, loss in (("inner", inner), ("outer", outer)):
        if not isinstance(loss, Tensor):
            raise InputError(f"{name} is of type {type(loss).__name__}: give a scalar tensor")
        if loss.ndim or not loss.requires_grad:
            graph = "a graph" if loss.requires_grad else "no graph"
            raise InputError(
                f"{name} has shape {tuple(loss.shape)} and {graph}: give a scalar that was "
                "computed from tensors that require grad"
            )
    for name, tensors in (("weights", weights), ("hyper", hyper)):
        if isinstance(tensors, Tensor) or not tensors:
            raise InputError(f"{name} is no list of tensors, or an empty one: give at least one")
        for index, tensor in enumerate(tensors):
            if not tensor.requires_grad:
                raise InputError(
                    f"{name}[{index}] does not require grad: call requires_grad_() before the "
                    "losses are computed from it"
                )
    types = {str(w.dtype) for w in weights}
    if len(types) > 1:
        raise InputError(f"weights have the types {', '.join(sorted(types))}: give them one")
    if not 0 <= damping < float("inf"):
        raise InputError(f"damping is {damping}: set it to 0 or more")


def _require_used(of_inner: _Partial, of_outer: _Partial) -> None:
    """Refuse what would silently be 0."""
    for name, partial in (("inner", of_inner), ("outer", of_outer)):
        if all(gradient is None for gradient in partial.weights):
            raise InputError(f"{name} depends on none of the weights: compute it from them")
    for index, found in enumerate(zip(of_inner.hyper, of_outer.hyper, strict=True)):
        if all(gradient is None for gradient in found):
            raise InputError(
                f"hyper[{index}] is used by neither inner nor outer: compute them from it, or "
                "leave it out"
            )


def _solver(
    solver: str | LinearSolver, rtol: float, max_steps: int | None, size: int
) -> LinearSolver:
    if isinstance(solver, LinearSolver):
        chosen = solver
    elif SOLVERS[solver] is Nystrom:
        chosen = Nystrom(rtol=rtol, max_steps=max_steps, rank=min(NYSTROM_RANK, size))
    else:
        chosen = SOLVERS[solver].configured(rtol, max_steps)
    if chosen.needs_gauss_newton:
        raise InputError(
            f"solver '{chosen.name}' needs a Gauss–Newton matrix, which a plain loss does not "
            "have: set solver=cg"
        )
    return chosen
