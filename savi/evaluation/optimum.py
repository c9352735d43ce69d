"""The best posterior of the family for each example, and whether it is one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from savi._minimize import minimize
from savi.gradients import StopGradient
from savi.inference.negative_elbo import NegativeELBO
from savi.inner.objective import InnerObjective
from savi.inner.optimizers import LevenbergMarquardt, Newton
from savi.inner.precision import full_precision
from savi.linear.base import LinearStatus, SymmetricOperator, dot, norm
from savi.linear.dense import Cholesky, multiply
from savi.types import Codes, Index, Mask, Observations, PerExample, Rows, Samples
from savi.vae.data_fit import data_fit
from savi.vae.distributions import antithetic_noise
from savi.vae.families import PosteriorFamily
from savi.vae.model import VAE

#: Least noise samples of the problem that defines the best q, so that it does not fit the noise.
SOLVE_SAMPLES = 64
#: Nats below the optimum at which a solve counts as converged, whatever stopped it: below the noise
#: of the bounds, and above what float32 or the kinks of a ReLU decoder leave.
NEGLIGIBLE = 2e-3
#: Nats below the optimum at which Newton's method is worth its price, and its steps at most.
WORTH_NEWTON, NEWTON_STEPS = 1e-5, 20
#: Entries [S, B, D] that a solve decodes to at once at most: half a gigabyte.
SOLVE_ENTRIES = 2**27
#: Entries [S, B, d, D] of the tangents that a piece of the exact Hessians needs at most.
TANGENT_ENTRIES = 2**24
#: Enough inverse iterations for several digits of the smallest eigenvalue.
INVERSE_ITERATIONS = 20


@dataclass(frozen=True)
class LocalOptimum:
    """λ* = argmax L in the family, and its certificate, one value per example.

    The gaps and the likelihood regret are statements on an optimum, which an optimiser that has
    stopped may not have found. A strict local maximum has a gradient of 0 and a positive definite
    H = −∇²L; both are checked, with the exact H.

    Attributes:
        value: λ*.
        stationarity: ‖∇L(λ*)‖ over the larger of its norms at the start and at the prior's λ
            (at least 1 nat per unit of λ): a start that is good already does not count against it.
        min_curvature: the smallest eigenvalue of H.
        remaining: ½ gᵀH⁻¹g with g = ∇L(λ*), the nats that one more Newton step would gain.
        definite: whether H is positive definite.
    """

    value: Rows
    stationarity: PerExample
    min_curvature: PerExample
    remaining: PerExample
    definite: Mask

    @property
    def converged(self) -> Mask:
        """Where less than 0.002 nats are left to gain."""
        return self.remaining.abs() <= NEGLIGIBLE

    @property
    def failed(self) -> Mask:
        """Where λ* is not shown to be a strict local maximum."""
        return ~(self.converged & self.definite)

    def metrics(self) -> dict[str, float]:
        """The certificate over all examples; ``stationarity`` is the largest."""
        return {
            "converged": float(self.converged.double().mean()),
            "stationarity": float(self.stationarity.max()),
            "stationarity_median": float(self.stationarity.median()),
            "min_curvature": float(self.min_curvature.min()),
            "failures": float(self.failed.double().mean()),
        }


@torch.no_grad()
def local_optimum(
    model: VAE,
    family: PosteriorFamily,
    x: Observations,
    start: Rows,
    *,
    steps: int,
    generator: torch.Generator,
) -> LocalOptimum:
    """Maximise L over λ, and certify the answer.

    By at most so many steps of Levenberg–Marquardt, and as many (but 20 at most) of Newton's method
    with the exact Hessian from where that has not converged. The ``start`` matters, as L is concave
    for affine decoders only. For the MAP families it is the MAP problem that is solved.
    """
    start, d = start.detach(), family.latent_dim
    noise = matched_noise(max(SOLVE_SAMPLES, 4 * d), start[:, :d], generator)
    samples = 1 if family.is_map else len(noise)
    largest = max(1, SOLVE_ENTRIES // (samples * model.likelihood.num_outputs))
    return _joined(
        _optimum(model, family, x[part], start[part], noise[:, part], steps)
        for part in torch.arange(len(x), device=x.device).split(largest)
    )


def _optimum(
    model: VAE, family: PosteriorFamily, x: Observations, start: Rows, noise: Samples, steps: int
) -> LocalOptimum:
    """Of examples whose samples are decoded at once."""
    d, samples = family.latent_dim, 1 if family.is_map else len(noise)
    fit = data_fit(model, x, start[:, :d], codes=len(x) * samples * steps)
    objective = NegativeELBO(model, family, fit, lambda step: noise)
    value = _minimised(objective, start, LevenbergMarquardt(), steps)
    prior = family.prior_params().to(start).expand_as(start)
    scale = torch.stack([norm(objective.gradient(y)[1]) for y in (start, prior)]).amax(dim=0)
    scale = scale.clamp_min(1.0)
    parts = torch.arange(len(x), device=x.device).split(
        max(1, TANGENT_ENTRIES // (samples * d * model.likelihood.num_outputs))
    )
    # As the solves themselves are: TF32 would leave a certificate of its rounding errors.
    with full_precision(x.device.type):
        return _joined(
            _finished(objective, part, value[part], scale[part], min(steps, NEWTON_STEPS))
            for part in parts
        )


def _joined(optima: Iterable[LocalOptimum]) -> LocalOptimum:
    """Those of consecutive examples."""
    fields = zip(*(vars(optimum).values() for optimum in optima), strict=True)
    return LocalOptimum(*map(torch.cat, fields))


def matched_noise(samples: int, like: Codes, generator: torch.Generator) -> Samples:
    """Antithetic Gaussian noise, scaled for every example so that (1/S) Σ εεᵀ = I exactly.

    With an affine decoder the Monte Carlo bound is then the exact one, and so is its maximiser.
    Orthogonal noise has this too, at any number of samples ‖ε‖² = d: with a curved decoder and
    small d its best q is visibly worse under Gaussian noise.
    """
    noise = antithetic_noise(samples, like, generator)
    moment = torch.einsum("sbi,sbj->bij", noise, noise) / samples
    factor = torch.linalg.cholesky(moment)
    # ε ← L⁻¹ε.
    whitened = torch.linalg.solve_triangular(factor, noise.permute(1, 2, 0), upper=False)
    return whitened.permute(2, 0, 1).contiguous()


def _minimised(
    objective: InnerObjective, start: Rows, optimizer: LevenbergMarquardt, steps: int
) -> Rows:
    # The curvature at the best q is about 1/2 or more, so that a gradient of 1e-3 leaves about 1e-6
    # nats. Float32 could not do much better, and where γ is small only relative to the start.
    atol = 1e-3 if start.dtype == torch.float32 else 1e-6
    return minimize(
        objective,
        start,
        optimizer=optimizer,
        gradient=StopGradient(),
        max_steps=steps,
        rtol=1e-2 * atol,
        atol=atol,
    ).value


def _finished(
    objective: NegativeELBO, part: Index, value: Rows, scale: PerExample, steps: int
) -> LocalOptimum:
    """The certified optima of some examples, after Newton steps for those that need them."""
    optimum = _certified(objective.rows(part), value, scale)
    settled = optimum.definite & (optimum.remaining.abs() <= WORTH_NEWTON)
    (again,) = (~settled).nonzero(as_tuple=True)
    if len(again) == 0:
        return optimum
    better = _minimised(objective.rows(part[again]), value[again], Newton(), steps)
    return _certified(objective.rows(part), value.index_put((again,), better), scale)


def _certified(objective: InnerObjective, value: Rows, scale: PerExample) -> LocalOptimum:
    gradient = objective.gradient(value)[1]
    hessian = objective.exact_curvature(value)
    operator = SymmetricOperator(lambda v: multiply(hessian, v), lambda: hessian)
    newton = Cholesky(INVERSE_ITERATIONS)(operator, gradient)
    return LocalOptimum(
        value,
        norm(gradient) / scale,
        newton.min_curvature,
        0.5 * dot(gradient, newton.value),
        newton.status == LinearStatus.SOLVED,
    )
