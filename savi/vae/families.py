"""Posterior families: how the variational parameters λ [B, P] become a distribution q(z|x)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from inspect import signature
from typing import ClassVar, TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError, unknown_option
from savi.registry import Registry
from savi.types import Blocks, Codes, PerExample, Rows, Samples
from savi.vae.distributions import DiagonalGaussian, FullGaussian, PointMass, Posterior
from savi.vae.model import VAE, KLWeight, jacobian

Jacobians: TypeAlias = Float[Tensor, "S B d P"]

#: The choices of ``posterior.covariance_gradient``.
COVARIANCE_GRADIENT = ("exact", "stop")


class PosteriorFamily(ABC):
    """λ ↦ q_λ(z|x).

    A family needs P and a distribution: the derivatives of its ELBO are then those of autograd.
    One that is a dataclass declares its options as fields, the first of them ``latent_dim``.

    Attributes:
        name: the name in configs.
        num_params: P, the number of variational parameters of an example.
        has_density: whether q has a density (a point mass has none).
        is_map: whether λ is a latent code found by MAP inference.
        closed_form: whether it is a :class:`ClosedFormFamily`.
    """

    name: ClassVar[str]
    has_density: ClassVar[bool] = True
    is_map: ClassVar[bool] = False
    closed_form: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Let a ``distribution(self, lam)`` be called with a model and β, and ignore them."""
        own = vars(cls).get("distribution")
        if own is not None and len(signature(own).parameters) == 2:
            cls.distribution = lambda self, lam, *_: own(self, lam)  # type: ignore[method-assign]

    def __init__(self, latent_dim: int) -> None:
        self.latent_dim = latent_dim

    @property
    @abstractmethod
    def num_params(self) -> int:
        """P."""

    @abstractmethod
    def distribution(self, lam: Rows, model: VAE, beta: KLWeight = 1.0) -> Posterior:
        """q_λ. Only ``laplace`` looks at the model and at the weight β of the KL term."""

    def mean(self, lam: Rows, model: VAE) -> Codes:
        """The mean of q_λ."""
        return self.distribution(lam, model).mean

    def natural_gradient(self, lam: Rows, gradient: Rows) -> Rows:
        """F(λ)⁻¹ g, with F = ∇²_λ' KL(q_λ ‖ q_λ') at λ' = λ, the Fisher matrix of q_λ.

        By default F comes from autograd, for a distribution that does not look at the model.
        """
        differentiable = torch.is_grad_enabled() and (lam.requires_grad or gradient.requires_grad)
        with torch.enable_grad():
            moved = lam.clone() if lam.requires_grad else lam.detach().requires_grad_()
            q, other = (self.distribution(at, cast(VAE, None)) for at in (lam, moved))
            (slope,) = torch.autograd.grad(q.kl_to(other).sum(), moved, create_graph=True)
            rows = [
                torch.autograd.grad(column.sum(), moved, retain_graph=True, create_graph=True)[0]
                for column in slope.unbind(dim=-1)
            ]
            # An example whose F is singular gets a step that is not finite, and no other does.
            step, _ = torch.linalg.solve_ex(torch.stack(rows, dim=-2), gradient)
        return step if differentiable else step.detach()

    def natural_step(self, lam: Rows, gradient: Rows, length: PerExample) -> Rows:
        """A step of length α against the natural gradient: λ − α F(λ)⁻¹ g to first order in α."""
        return lam - length.unsqueeze(-1) * self.natural_gradient(lam, gradient)

    def prior_params(self) -> Float[Tensor, " P"]:
        """The λ at which q is the prior N(0, I), where inference without an encoder starts.

        For a MAP family, its mean. Zeros, unless a family says otherwise.
        """
        return torch.zeros(self.num_params)


POSTERIORS: Registry[type[PosteriorFamily]] = Registry(
    "posterior", supplied=1, base=PosteriorFamily
)


class ClosedFormFamily(PosteriorFamily):
    """A family whose ELBO has a Gauss–Newton matrix: what that needs is known without a graph.

    Its λ begins with the mean of q, and all mixed second derivatives of z(λ, ε) and of the KL term
    are 0. The derivatives are those of autograd where the family has no closed form of its own.
    """

    closed_form = True

    def mean(self, lam: Rows, model: VAE) -> Codes:
        """The first d numbers of λ."""
        return lam[:, : self.latent_dim]

    def scale_times(self, gradient: Rows, factor: float) -> Rows:
        """A gradient in λ of which all but the mean's part is multiplied."""
        by_mean, by_scale = gradient.tensor_split([self.latent_dim], dim=-1)
        return torch.cat([by_mean, factor * by_scale], dim=-1)

    def samples(self, lam: Rows, noise: Samples) -> Samples:
        """z(λ, ε)."""
        return self.distribution(lam, cast(VAE, None)).rsample(noise)

    def sample_jacobian(self, lam: Rows, noise: Samples) -> Jacobians:
        """∂z/∂λ of the reparameterised sample z(λ, ε)."""
        return jacobian(lambda at: self.samples(at, noise), lam).mT

    def pull_back(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """(1/S) Σ_s (∂z_s/∂λ)ᵀ c_s: from the gradient in the samples to that in λ."""
        return _slope(lambda at: (c * self.samples(at, noise)).sum() / len(c), lam)

    def pull_back_curvature(
        self, lam: Rows, noise: Samples, matrix: Float[Tensor, "#S B d d"]
    ) -> Blocks:
        """(1/S) Σ_s A_sᵀ M_s A_s with A_s = ∂z_s/∂λ, for symmetric M_s."""
        a = self.sample_jacobian(lam, noise)
        return (a.mT @ matrix @ a).mean(dim=0)

    def bending(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """(1/S) Σ_s c_sᵀ ∂²z_s/∂λ²: what the bending of the samples adds to the curvature."""
        return _slope(lambda at: self.pull_back(at, noise, c).sum(), lam)

    def kl_gradient(self, lam: Rows) -> Rows:
        """∇_λ KL(q_λ ‖ N(0, I)); of ½‖z‖² for a MAP family."""
        model = cast(VAE, None)
        return _slope(lambda at: self.distribution(at, model).kl_per_dimension().sum(), lam)

    def kl_curvature(self, lam: Rows) -> Rows:
        """The diagonal of ∇²_λ KL(q_λ ‖ N(0, I)), whose off-diagonal entries are all 0."""
        return _slope(lambda at: self.kl_gradient(at).sum(), lam)


def _slope(f: Callable[[Tensor], Tensor], lam: Rows) -> Rows:
    """∇f(λ), with a graph where gradients are enabled; 0 where f does not depend on λ."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        at = lam.clone() if lam.requires_grad else lam.detach().requires_grad_()
        value = f(at)
        if not value.requires_grad:
            return torch.zeros_like(lam)
        (slope,) = torch.autograd.grad(value, at, create_graph=True, materialize_grads=True)
    return slope if differentiable else slope.detach()


@POSTERIORS.register("diagonal_gaussian")
class DiagonalGaussianFamily(ClosedFormFamily):
    """λ = (mean, log variance), P = 2d; s is the standard deviation."""

    name = "diagonal_gaussian"

    @property
    def num_params(self) -> int:
        """2d."""
        return 2 * self.latent_dim

    def distribution(self, lam: Rows, model: VAE, beta: KLWeight = 1.0) -> DiagonalGaussian:
        """N(mean, diag exp(log variance))."""
        return DiagonalGaussian(*lam.chunk(2, dim=-1))

    def _scale(self, lam: Rows) -> Codes:
        return (0.5 * lam[:, self.latent_dim :]).exp()

    def pull_back(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """The means of c and of ½ s ∘ ε ∘ c."""
        return torch.cat([c.mean(dim=0), 0.5 * self._scale(lam) * (c * noise).mean(dim=0)], dim=-1)

    def pull_back_curvature(
        self, lam: Rows, noise: Samples, matrix: Float[Tensor, "#S B d d"]
    ) -> Blocks:
        """The blocks M, M diag(a) and diag(a) M diag(a), averaged, with a = ½ s ∘ ε."""
        a = 0.5 * self._scale(lam) * noise
        scaled = matrix * a.unsqueeze(-2)
        mixed = scaled.mean(dim=0)
        upper = torch.cat([matrix.mean(dim=0), mixed], dim=-1)
        lower = torch.cat([mixed.mT, (scaled * a.unsqueeze(-1)).mean(dim=0)], dim=-1)
        return torch.cat([upper, lower], dim=-2)

    def bending(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """0, and the mean of ¼ s ∘ ε ∘ c."""
        by_log_variance = 0.25 * self._scale(lam) * (noise * c).mean(dim=0)
        return torch.cat([torch.zeros_like(by_log_variance), by_log_variance], dim=-1)

    def kl_gradient(self, lam: Rows) -> Rows:
        """The mean, and ½(s² − 1)."""
        mean, log_variance = lam.chunk(2, dim=-1)
        return torch.cat([mean, 0.5 * log_variance.expm1()], dim=-1)

    def kl_curvature(self, lam: Rows) -> Rows:
        """1 for the mean, ½s² for the log variance."""
        mean, log_variance = lam.chunk(2, dim=-1)
        return torch.cat([torch.ones_like(mean), 0.5 * log_variance.exp()], dim=-1)

    def natural_gradient(self, lam: Rows, gradient: Rows) -> Rows:
        """F = diag(1/s², ½)."""
        _, log_variance = lam.chunk(2, dim=-1)
        by_mean, by_log_variance = gradient.chunk(2, dim=-1)
        return torch.cat([log_variance.exp() * by_mean, 2.0 * by_log_variance], dim=-1)

    def natural_step(self, lam: Rows, gradient: Rows, length: PerExample) -> Rows:
        """1/s'² = (1 + x + ½x²)/s², x = 2 α g_log_variance; mean − δ/√(1 + δ²), δ = α s'² g_mean.

        With x alone the precisions would take a step in natural parameters; ½x² keeps them positive
        (Lin, Schmidt and Khan 2020), where x is at least −1, so that no variance more than doubles.
        Variances that have learned of a curvature before the mean moves (Khan et al. 2018) do not
        let it overshoot, and no coordinate moves further than the prior's standard deviation.
        """
        mean, log_variance = lam.chunk(2, dim=-1)
        by_mean, by_log_variance = gradient.chunk(2, dim=-1)
        length = length.unsqueeze(-1)
        x = (2.0 * length * by_log_variance).clamp_min(-1.0)
        log_variance = log_variance - torch.log1p(x + 0.5 * x.square())
        delta = length * log_variance.exp() * by_mean
        mean = mean - delta / torch.hypot(delta, torch.ones_like(delta))
        return torch.cat([mean, log_variance], dim=-1)


@POSTERIORS.register("full_gaussian")
class FullGaussianFamily(ClosedFormFamily):
    """λ = (mean, log diag L, strictly lower triangle of L by rows), P = 2d + d(d−1)/2."""

    name = "full_gaussian"

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self._rows, self._columns = torch.tril_indices(latent_dim, latent_dim, offset=-1)

    @property
    def num_params(self) -> int:
        """2d + d(d−1)/2."""
        return 2 * self.latent_dim + len(self._rows)

    def _split(self, lam: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        d = self.latent_dim
        return lam[:, :d], lam[:, d : 2 * d], lam[:, 2 * d :]

    def distribution(self, lam: Rows, model: VAE, beta: KLWeight = 1.0) -> FullGaussian:
        """N(mean, L Lᵀ)."""
        mean, log_diagonal, lower = self._split(lam)
        return FullGaussian(mean, self._triangle(log_diagonal.exp(), lower))

    def _triangle(self, diagonal: Codes, lower: Float[Tensor, "B T"]) -> Float[Tensor, "B d d"]:
        """The lower triangular matrix of its entries."""
        matrix, device = torch.diag_embed(diagonal), lower.device
        examples = torch.arange(len(lower), device=device)[:, None]
        index = (examples, self._rows.to(device), self._columns.to(device))
        return matrix + torch.zeros_like(matrix).index_put(index, lower)

    def _below(self, matrix: Float[Tensor, "B d d"]) -> Float[Tensor, "B T"]:
        """The entries of the strictly lower triangle, by rows."""
        return matrix[:, self._rows.to(matrix.device), self._columns.to(matrix.device)]

    def sample_jacobian(self, lam: Rows, noise: Samples) -> Jacobians:
        """∂z_i/∂mean_i = 1, ∂z_i/∂log L_ii = L_ii ε_i, ∂z_i/∂L_ij = ε_j."""
        _, log_diagonal, lower = self._split(lam)
        by_diagonal = torch.diag_embed(log_diagonal.exp() * noise)
        identity = torch.eye(self.latent_dim, dtype=lam.dtype, device=lam.device)
        by_lower = noise.new_zeros(*noise.shape, lower.shape[-1])
        entries = torch.arange(lower.shape[-1])
        by_lower[..., self._rows, entries] = noise[..., self._columns]
        return torch.cat([identity.expand_as(by_diagonal), by_diagonal, by_lower], dim=-1)

    def pull_back(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """The means of c, and of the entries of c εᵀ with those of log L_ii times L_ii."""
        _, log_diagonal, _ = self._split(lam)
        outer = torch.einsum("sbi,sbj->bij", c, noise) / len(noise)
        diagonal = log_diagonal.exp() * outer.diagonal(dim1=-2, dim2=-1)
        return torch.cat([c.mean(dim=0), diagonal, self._below(outer)], dim=-1)

    def bending(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """The mean of L_ii ε_i c_i for log L_ii; z is linear in all else."""
        mean, log_diagonal, lower = self._split(lam)
        by_diagonal = log_diagonal.exp() * (noise * c).mean(dim=0)
        return torch.cat([torch.zeros_like(mean), by_diagonal, torch.zeros_like(lower)], dim=-1)

    def kl_gradient(self, lam: Rows) -> Rows:
        """The mean, L_ii² − 1 for log L_ii, and the lower triangle."""
        mean, log_diagonal, lower = self._split(lam)
        return torch.cat([mean, (2.0 * log_diagonal).expm1(), lower], dim=-1)

    def kl_curvature(self, lam: Rows) -> Rows:
        """1 for the mean and the lower triangle, 2 L_ii² for log L_ii."""
        mean, log_diagonal, lower = self._split(lam)
        by_diagonal = 2.0 * (2.0 * log_diagonal).exp()
        return torch.cat([torch.ones_like(mean), by_diagonal, torch.ones_like(lower)], dim=-1)

    def natural_gradient(self, lam: Rows, gradient: Rows) -> Rows:
        """Σ g in the mean; dL = L M in the factor, M = tril(LᵀG) with its diagonal halved.

        A change dL = L M moves q by dKL = Σ_i M_ii² + ½ Σ_{i>j} M_ij², whose matrix is diagonal:
        2 on the diagonal of M and 1 below it. G is the gradient in L, LᵀG that in M.
        """
        _, log_diagonal, lower = self._split(lam)
        by_mean, by_log_diagonal, by_lower = self._split(gradient)
        scale_tril = self._triangle(log_diagonal.exp(), lower)
        by_factor = self._triangle(by_log_diagonal * (-log_diagonal).exp(), by_lower)
        by_move = (scale_tril.mT @ by_factor).tril()
        diagonal = 0.5 * by_move.diagonal(dim1=-2, dim2=-1)
        below = self._below(scale_tril @ (by_move - torch.diag_embed(diagonal)))
        mean = (scale_tril @ (scale_tril.mT @ by_mean.unsqueeze(-1))).squeeze(-1)
        return torch.cat([mean, diagonal, below], dim=-1)


class _MapFamily(ClosedFormFamily):
    """λ = z, P = d."""

    is_map = True

    @property
    def num_params(self) -> int:
        """The latent dimension d."""
        return self.latent_dim

    def samples(self, lam: Rows, noise: Samples) -> Samples:
        """λ itself, whatever the noise."""
        return lam.unsqueeze(0)

    def pull_back(self, lam: Rows, noise: Samples, c: Samples) -> Rows:
        """The one sample's: z = λ."""
        return c.mean(dim=0)

    def kl_gradient(self, lam: Rows) -> Rows:
        """λ."""
        return lam

    def kl_curvature(self, lam: Rows) -> Rows:
        """1: −log p(z) = ½‖z‖² + const."""
        return torch.ones_like(lam)

    def natural_gradient(self, lam: Rows, gradient: Rows) -> Rows:
        """Refused: λ is a point, not a distribution.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"posterior '{self.name}' has no Fisher matrix: take 'diagonal_gaussian' or "
            "'full_gaussian'"
        )


@POSTERIORS.register("point_mass")
class PointMassFamily(_MapFamily):
    """All mass at z = λ."""

    name = "point_mass"
    has_density = False

    def distribution(self, lam: Rows, model: VAE, beta: KLWeight = 1.0) -> PointMass:
        """The point mass at λ."""
        return PointMass(lam)


@POSTERIORS.register("laplace")
class LaplaceFamily(_MapFamily):
    """q = N(λ, (I + JᵀJ/γ)⁻¹) with J the decoder's Jacobian at λ (Park et al. 2019).

    At the MAP solution of an affine decoder this is the exact posterior. With a KL weight β the
    covariance is (I + JᵀJ/(βγ))⁻¹, the optimum of the weighted bound.

    Args:
        latent_dim: d.
        covariance_gradient: ``exact``, or ``stop``: the covariance is held constant. At the best
            covariance the bound's derivative in it is 0, so that little is lost where this one is
            close to the best; and it costs most of what a Laplace posterior costs.
    """

    name = "laplace"

    def __init__(self, latent_dim: int, covariance_gradient: str = "exact") -> None:
        super().__init__(latent_dim)
        if covariance_gradient not in COVARIANCE_GRADIENT:
            raise unknown_option("covariance_gradient", covariance_gradient, COVARIANCE_GRADIENT)
        self.covariance_gradient = covariance_gradient

    def distribution(self, lam: Rows, model: VAE, beta: KLWeight = 1.0) -> FullGaussian:
        """The Laplace approximation at λ, whether λ is a mode or not."""
        exact = torch.is_grad_enabled() and self.covariance_gradient == "exact"
        with torch.set_grad_enabled(exact):
            precision = model.precision(lam, beta)
        return FullGaussian(lam, _factor_of_inverse(precision))


def _factor_of_inverse(precision: Float[Tensor, "B d d"]) -> Float[Tensor, "B d d"]:
    """The lower triangle L with L Lᵀ = Λ⁻¹; NaN where Λ has no factors, there alone.

    One factorisation and a triangular solve: the inverse itself is never factorised.
    """
    flipped, info = torch.linalg.cholesky_ex(precision.flip((-2, -1)))
    flipped = torch.where((info == 0)[:, None, None], flipped, torch.nan)
    upper = flipped.flip((-2, -1)).mT
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return torch.linalg.solve_triangular(upper, identity, upper=False)
