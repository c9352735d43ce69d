"""What the gradients should be, in double precision."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.peers.problem import Problem
from benchmarks.progress import quiet
from savi._minimize import minimize
from savi.gradients import Implicit
from savi.inner import LevenbergMarquardt
from savi.types import Blocks, Codes

Vector = NDArray[np.float64]

#: The reference is solved to this times the slopes at the start, in at most so many steps.
RTOL, MAX_STEPS = 1e-12, 200


class Reference:
    """The exact problem: slopes, solutions, and the derivatives of both kinds."""

    def __init__(self, problem: Problem) -> None:
        self._batch = problem.batch(torch.float64)
        self._start_slope = self._slope(self._batch.start).norm(dim=-1)

    def sharpest(self) -> float:
        """λmax, the largest eigenvalue of any example's Hessian at the start."""
        return float(torch.linalg.eigvalsh(self._hessian(self._batch.start)).max())

    def stationarity(self, z: NDArray[np.float32]) -> Vector:
        """‖∇J(z)‖ / ‖∇J(z0)‖ of every example."""
        slope = self._slope(torch.from_numpy(z).double()).norm(dim=-1)
        return (slope / self._start_slope).numpy()

    def at_solution(self, z: NDArray[np.float32]) -> Vector:
        """The gradient at the exact minimisers to which descent from z leads.

        Levenberg–Marquardt from z, since an objective with several minimisers leads different
        solvers to different ones, and the implicit function theorem there.
        """
        with quiet():
            solution = minimize(
                self._batch.objective(MAX_STEPS),
                torch.from_numpy(z).double(),
                optimizer=LevenbergMarquardt(),
                gradient=Implicit(solver="cholesky"),
                max_steps=MAX_STEPS,
                rtol=0.0,
                atol=RTOL * float(self._start_slope.median()),
            )
            loss = self._batch.outer(solution.value)
            return _flat(torch.autograd.grad(loss, self._batch.weights))

    def of_steps(self, steps: int, lr: float) -> dict[str, Vector]:
        """The gradients that K steps of gradient descent lead to, by the kind of derivative.

        ``stop``: ∂L/∂θ alone; ``ift``: with −H⁻¹ ∂∇J/∂θ at zK; ``unrolled``: with the derivative
        of zK itself, by a_k = (I − αH_k) a_{k+1} from the last step to the first.
        """
        iterates = [self._batch.start]
        for _ in range(steps):
            iterates.append(iterates[-1] - lr * self._slope(iterates[-1]))
        *earlier, last = iterates
        last = last.requires_grad_()
        cotangent, *direct = torch.autograd.grad(
            self._batch.outer(last), [last, *self._batch.weights]
        )
        stop = _flat(direct)
        last = last.detach()
        adjoint = torch.linalg.solve(self._hessian(last), cotangent)
        ift = stop - self._pulled_back(last, adjoint)[1]
        unrolled = stop.copy()
        for z in reversed(earlier):
            by_codes, by_weights = self._pulled_back(z, cotangent)
            unrolled -= lr * by_weights
            cotangent = cotangent - lr * by_codes
        return {"stop": stop, "ift": ift, "unrolled": unrolled}

    def _slope(self, z: Codes) -> Codes:
        return self._batch.objective().gradient(z)[1]

    def _hessian(self, z: Codes) -> Blocks:
        return self._batch.objective().linearize(z).hessian()

    def _pulled_back(self, z: Codes, v: Codes) -> tuple[Codes, Vector]:
        """H v, and (∂∇J/∂θ)ᵀ v."""
        at = self._batch.objective().linearize(z)
        products = torch.autograd.grad(at.residual, [at.point, *self._batch.weights], v)
        return products[0], _flat(products[1:])


def relative_error(gradient: NDArray[np.float32], reference: Vector) -> float:
    """‖g − g*‖ / ‖g*‖."""
    return float(np.linalg.norm(gradient - reference) / np.linalg.norm(reference))


def _flat(parts: Iterable[Tensor]) -> Vector:
    return torch.cat([part.ravel() for part in parts]).numpy()
