"""Posterior families: how the variational parameters λ [B, P] become a distribution q(z|x)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from inspect import signature
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MultivariateNormal

from savi.errors import InputError
from savi.registry import Registry
from savi.vae.distributions import DiagonalGaussian, FullGaussian, PointMass, Posterior
from savi.vae.model import GaussianVAE, KLWeight


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
    def distribution(
        self, lam: Float[Tensor, "B P"], model: GaussianVAE, beta: KLWeight = 1.0
    ) -> Posterior:
        """q_λ. Only ``laplace`` looks at the model and at the weight β of the KL term."""

    def mean(self, lam: Float[Tensor, "B P"], model: GaussianVAE) -> Float[Tensor, "B d"]:
        """The mean of q_λ."""
        return self.distribution(lam, model).mean

    def natural_gradient(
        self, lam: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        """F(λ)⁻¹ g, with F = ∇²_λ' KL(q_λ ‖ q_λ') at λ' = λ, the Fisher matrix of q_λ.

        By default F comes from autograd, for a distribution that does not look at the model.
        """
        differentiable = torch.is_grad_enabled() and (lam.requires_grad or gradient.requires_grad)
        with torch.enable_grad():
            moved = lam.clone() if lam.requires_grad else lam.detach().requires_grad_()
            q, other = (self.distribution(at, cast(GaussianVAE, None)) for at in (lam, moved))
            (slope,) = torch.autograd.grad(q.kl_to(other).sum(), moved, create_graph=True)
            rows = [
                torch.autograd.grad(column.sum(), moved, retain_graph=True, create_graph=True)[0]
                for column in slope.unbind(dim=-1)
            ]
            step = torch.linalg.solve(torch.stack(rows, dim=-2), gradient)
        return step if differentiable else step.detach()

    def prior_params(self) -> Float[Tensor, " P"]:
        """The λ at which q is the prior N(0, I), where inference without an encoder starts.

        For a MAP family, its mean. Zeros, unless a family says otherwise.
        """
        return torch.zeros(self.num_params)


POSTERIORS: Registry[type[PosteriorFamily]] = Registry(
    "posterior", supplied=1, base=PosteriorFamily
)


class ClosedFormFamily(PosteriorFamily):
    """A family that knows what the Gauss–Newton matrix of the ELBO needs, without autograd.

    Its λ begins with the mean of q. All mixed second derivatives of z(λ, ε) and of the KL term
    are 0.
    """

    closed_form = True

    def mean(self, lam: Float[Tensor, "B P"], model: GaussianVAE) -> Float[Tensor, "B d"]:
        """The first d numbers of λ."""
        return lam[:, : self.latent_dim]

    @abstractmethod
    def sample_jacobian(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "S B d P"]:
        """∂z/∂λ of the reparameterised sample z(λ, ε)."""

    @abstractmethod
    def sample_curvature(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "S B d P"]:
        """∂²z_i/∂λ_p²; all mixed second derivatives of z(λ, ε) are 0."""

    @abstractmethod
    def pull_back(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"], c: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "B P"]:
        """(1/S) Σ_s (∂z_s/∂λ)ᵀ c_s: from the gradient in the samples to that in λ."""

    def pull_back_curvature(
        self,
        lam: Float[Tensor, "B P"],
        noise: Float[Tensor, "S B d"],
        matrix: Float[Tensor, "#S B d d"],
    ) -> Float[Tensor, "B P P"]:
        """(1/S) Σ_s A_sᵀ M_s A_s with A_s = ∂z_s/∂λ, for symmetric M_s."""
        jacobian = self.sample_jacobian(lam, noise)
        return (jacobian.mT @ matrix @ jacobian).mean(dim=0)

    def bending(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"], c: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "B P"]:
        """(1/S) Σ_s c_sᵀ ∂²z_s/∂λ²: what the bending of the samples adds to the curvature."""
        second = self.sample_curvature(lam, noise)
        return torch.einsum("sbi,sbip->bp", c, second) / len(noise)

    @abstractmethod
    def kl_gradient(self, lam: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """∇_λ KL(q_λ ‖ N(0, I)); of ½‖z‖² for a MAP family."""

    @abstractmethod
    def kl_curvature(self, lam: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """The diagonal of ∇²_λ KL(q_λ ‖ N(0, I)), whose off-diagonal entries are all 0."""

    @abstractmethod
    def natural_gradient(
        self, lam: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        """F(λ)⁻¹ g, with F = ∇²_λ' KL(q_λ ‖ q_λ') at λ' = λ, the Fisher matrix of q_λ."""


@POSTERIORS.register("diagonal_gaussian")
class DiagonalGaussianFamily(ClosedFormFamily):
    """λ = (mean, log variance), P = 2d."""

    name = "diagonal_gaussian"

    @property
    def num_params(self) -> int:
        """2d."""
        return 2 * self.latent_dim

    def distribution(
        self, lam: Float[Tensor, "B P"], model: GaussianVAE, beta: KLWeight = 1.0
    ) -> DiagonalGaussian:
        """N(mean, diag exp(log variance))."""
        return DiagonalGaussian(*lam.chunk(2, dim=-1))

    def sample_jacobian(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "S B d P"]:
        """[I, ½ diag(s ∘ ε)]."""
        scale = (0.5 * lam[:, self.latent_dim :]).exp()
        by_log_variance = torch.diag_embed(0.5 * scale * noise)
        identity = torch.eye(self.latent_dim, dtype=lam.dtype, device=lam.device)
        return torch.cat([identity.expand_as(by_log_variance), by_log_variance], dim=-1)

    def sample_curvature(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "S B d P"]:
        """[0, ¼ diag(s ∘ ε)]."""
        scale = (0.5 * lam[:, self.latent_dim :]).exp()
        by_log_variance = torch.diag_embed(0.25 * scale * noise)
        return torch.cat([torch.zeros_like(by_log_variance), by_log_variance], dim=-1)

    def pull_back(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"], c: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "B P"]:
        """The means of c and of ½ s ∘ ε ∘ c."""
        scale = (0.5 * lam[:, self.latent_dim :]).exp()
        return torch.cat([c.mean(dim=0), 0.5 * scale * (c * noise).mean(dim=0)], dim=-1)

    def pull_back_curvature(
        self,
        lam: Float[Tensor, "B P"],
        noise: Float[Tensor, "S B d"],
        matrix: Float[Tensor, "#S B d d"],
    ) -> Float[Tensor, "B P P"]:
        """The blocks M, M diag(a) and diag(a) M diag(a), averaged, with a = ½ s ∘ ε."""
        a = 0.5 * (0.5 * lam[:, self.latent_dim :]).exp() * noise
        scaled = matrix * a.unsqueeze(-2)
        mixed = scaled.mean(dim=0)
        upper = torch.cat([matrix.mean(dim=0), mixed], dim=-1)
        lower = torch.cat([mixed.mT, (scaled * a.unsqueeze(-1)).mean(dim=0)], dim=-1)
        return torch.cat([upper, lower], dim=-2)

    def bending(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"], c: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "B P"]:
        """0, and the mean of ¼ s ∘ ε ∘ c."""
        by_log_variance = 0.25 * (0.5 * lam[:, self.latent_dim :]).exp() * (noise * c).mean(dim=0)
        return torch.cat([torch.zeros_like(by_log_variance), by_log_variance], dim=-1)

    def kl_gradient(self, lam: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """The mean, and ½(s² − 1)."""
        mean, log_variance = lam.chunk(2, dim=-1)
        return torch.cat([mean, 0.5 * log_variance.expm1()], dim=-1)

    def kl_curvature(self, lam: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """1 for the mean, ½s² for the log variance."""
        mean, log_variance = lam.chunk(2, dim=-1)
        return torch.cat([torch.ones_like(mean), 0.5 * log_variance.exp()], dim=-1)

    def natural_gradient(
        self, lam: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
        """F = diag(1/s², ½)."""
        _, log_variance = lam.chunk(2, dim=-1)
        by_mean, by_log_variance = gradient.chunk(2, dim=-1)
        return torch.cat([log_variance.exp() * by_mean, 2.0 * by_log_variance], dim=-1)


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

    def distribution(
        self, lam: Float[Tensor, "B P"], model: GaussianVAE, beta: KLWeight = 1.0
    ) -> FullGaussian:
        """N(mean, L Lᵀ)."""
        mean, log_diagonal, lower = self._split(lam)
        return FullGaussian(mean, self._triangle(log_diagonal.exp(), lower))

    def _triangle(
        self, diagonal: Float[Tensor, "B d"], lower: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B d d"]:
        """The lower triangular matrix of its entries."""
        matrix, device = torch.diag_embed(diagonal), lower.device
        examples = torch.arange(len(lower), device=device)[:, None]
        index = (examples, self._rows.to(device), self._columns.to(device))
        return matrix + torch.zeros_like(matrix).index_put(index, lower)

    def sample_jacobian(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "S B d P"]:
        """∂z_i/∂mean_i = 1, ∂z_i/∂log L_ii = L_ii ε_i, ∂z_i/∂L_ij = ε_j."""
        _, log_diagonal, lower = self._split(lam)
        by_diagonal = torch.diag_embed(log_diagonal.exp() * noise)
        identity = torch.eye(self.latent_dim, dtype=lam.dtype, device=lam.device)
        by_lower = noise.new_zeros(*noise.shape, lower.shape[-1])
        entries = torch.arange(lower.shape[-1])
        by_lower[..., self._rows, entries] = noise[..., self._columns]
        return torch.cat([identity.expand_as(by_diagonal), by_diagonal, by_lower], dim=-1)

    def sample_curvature(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "S B d P"]:
        """∂²z_i/∂(log L_ii)² = L_ii ε_i; z is linear in all else."""
        _, log_diagonal, lower = self._split(lam)
        by_diagonal = torch.diag_embed(log_diagonal.exp() * noise)
        by_lower = noise.new_zeros(*noise.shape, lower.shape[-1])
        return torch.cat([torch.zeros_like(by_diagonal), by_diagonal, by_lower], dim=-1)

    def pull_back(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"], c: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "B P"]:
        """The means of c, and of the entries of c εᵀ with those of log L_ii times L_ii."""
        _, log_diagonal, _ = self._split(lam)
        outer = torch.einsum("sbi,sbj->bij", c, noise) / len(noise)
        diagonal = log_diagonal.exp() * outer.diagonal(dim1=-2, dim2=-1)
        below = outer[:, self._rows.to(lam.device), self._columns.to(lam.device)]
        return torch.cat([c.mean(dim=0), diagonal, below], dim=-1)

    def kl_gradient(self, lam: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """The mean, L_ii² − 1 for log L_ii, and the lower triangle."""
        mean, log_diagonal, lower = self._split(lam)
        return torch.cat([mean, (2.0 * log_diagonal).expm1(), lower], dim=-1)

    def kl_curvature(self, lam: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """1 for the mean and the lower triangle, 2 L_ii² for log L_ii."""
        mean, log_diagonal, lower = self._split(lam)
        return torch.cat(
            [torch.ones_like(mean), 2.0 * (2.0 * log_diagonal).exp(), torch.ones_like(lower)],
            dim=-1,
        )

    def natural_gradient(
        self, lam: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
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
        move = by_move - torch.diag_embed(diagonal)
        below = (scale_tril @ move)[:, self._rows.to(lam.device), self._columns.to(lam.device)]
        whitened = scale_tril.mT @ by_mean.unsqueeze(-1)
        mean = (scale_tril @ whitened).squeeze(-1)
        return torch.cat([mean, diagonal, below], dim=-1)


class _MapFamily(ClosedFormFamily):
    """λ = z, P = d."""

    is_map = True

    @property
    def num_params(self) -> int:
        """The latent dimension d."""
        return self.latent_dim

    def sample_jacobian(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "S B d P"]:
        """The identity: z = λ."""
        return torch.eye(self.latent_dim, dtype=lam.dtype, device=lam.device).expand(
            1, len(lam), -1, -1
        )

    def sample_curvature(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "S B d P"]:
        """Zero."""
        return torch.zeros_like(self.sample_jacobian(lam, noise))

    def pull_back(
        self, lam: Float[Tensor, "B P"], noise: Float[Tensor, "S B d"], c: Float[Tensor, "S B d"]
    ) -> Float[Tensor, "B P"]:
        """The one sample's: z = λ."""
        return c.mean(dim=0)

    def kl_gradient(self, lam: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """λ."""
        return lam

    def kl_curvature(self, lam: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """1: −log p(z) = ½‖z‖² + const."""
        return torch.ones_like(lam)

    def natural_gradient(
        self, lam: Float[Tensor, "B P"], gradient: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B P"]:
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

    def distribution(
        self, lam: Float[Tensor, "B P"], model: GaussianVAE, beta: KLWeight = 1.0
    ) -> PointMass:
        """The point mass at λ."""
        return PointMass(lam)


@POSTERIORS.register("laplace")
class LaplaceFamily(_MapFamily):
    """q = N(λ, (I + JᵀJ/γ)⁻¹) with J the decoder's Jacobian at λ (Park et al. 2019).

    At the MAP solution of an affine decoder this is the exact posterior. With a KL weight β the
    covariance is (I + JᵀJ/(βγ))⁻¹, the optimum of the weighted bound.
    """

    name = "laplace"

    def distribution(
        self, lam: Float[Tensor, "B P"], model: GaussianVAE, beta: KLWeight = 1.0
    ) -> FullGaussian:
        """The Laplace approximation at λ, whether λ is a mode or not."""
        precision = model.precision(lam, beta)
        # One factorisation and a triangular solve: the covariance itself is never factorised.
        law = MultivariateNormal(lam, precision_matrix=precision, validate_args=False)
        return FullGaussian(lam, law.scale_tril)
