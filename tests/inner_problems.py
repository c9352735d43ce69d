"""Small inner problems with known solutions, and the helpers that tests of the solves share."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from savi.inner import AutogradObjective


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def spd(
    batch: int, size: int, seed: int = 0, floor: float = 0.5, ceiling: float = torch.inf
) -> Tensor:
    """Symmetric positive definite blocks [B, P, P], eigenvalues above ``floor``.

    Blocks with an eigenvalue above ``ceiling``, at which a step of descent may be too long, are
    scaled down to it.
    """
    root = randn(batch, size, size, seed=seed)
    matrix = root @ root.mT / size + floor * torch.eye(size, dtype=root.dtype)
    largest = torch.linalg.matrix_norm(matrix, 2).clamp_min(1e-300)
    return matrix * (ceiling / largest).clamp_max(1.0)[:, None, None]


@dataclass
class Quadratic:
    """J(y) = ½ yᵀHy − cᵀy, minimised by H⁻¹c."""

    hessian: Tensor
    linear: Tensor

    def __call__(self, y: Tensor) -> Tensor:
        """J(y)."""
        hy = (self.hessian @ y.unsqueeze(-1)).squeeze(-1)
        return 0.5 * (y * hy).sum(-1) - (self.linear * y).sum(-1)

    @property
    def minimiser(self) -> Tensor:
        """H⁻¹c."""
        return torch.linalg.solve(self.hessian, self.linear)


@dataclass
class Nonlinear:
    """J(y) = Σ_m softplus(Ay)_m + ½‖y‖² − cᵀy: strictly convex, not quadratic."""

    mixing: Tensor
    linear: Tensor

    def __call__(self, y: Tensor) -> Tensor:
        """J(y)."""
        convex = softplus(y @ self.mixing.mT).sum(-1) + 0.5 * y.square().sum(-1)
        return convex - (self.linear * y).sum(-1)


def log_cosh(y: Tensor) -> Tensor:
    """Convex, and Newton's full step overshoots ever further from |y| > 1.09."""
    return (y.abs() + softplus(-2.0 * y.abs())).sum(-1)


class WithFisher(AutogradObjective):
    """A function with the Fisher matrix diag(2 + sin y), as if y described a distribution."""

    has_fisher = True

    def natural_gradient(self, y: Tensor, gradient: Tensor) -> Tensor:
        """F(y)⁻¹ g."""
        return gradient / (2.0 + y.sin())


def for_optimizer(function, optimizer):
    """The function, with a Fisher matrix for an optimiser that needs one."""
    return WithFisher(function) if optimizer.needs_fisher else function


def nonlinear_inputs(batch: int = 3, size: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A, c and λ0 of a :class:`Nonlinear` problem, all requiring grad."""
    mixing, linear, start = (
        randn(3, size, seed=seed),
        randn(batch, size, seed=seed + 1),
        2.0 * randn(batch, size, seed=seed + 2),
    )
    return mixing.requires_grad_(), linear.requires_grad_(), start.requires_grad_()


def gradients(output: Tensor, inputs: tuple[Tensor, ...], cotangent: Tensor) -> list[Tensor]:
    """Vector-Jacobian products; 0 where the output does not depend on an input."""
    if not output.requires_grad:
        return [torch.zeros_like(tensor) for tensor in inputs]
    return list(
        torch.autograd.grad(output, inputs, cotangent, allow_unused=True, materialize_grads=True)
    )


def slope(sizes: list[float], errors: list[float]) -> float:
    """The least-squares slope of log error against log size."""
    log_size = torch.tensor(sizes, dtype=torch.float64).log()
    log_error = torch.tensor(errors, dtype=torch.float64).log()
    centred = log_size - log_size.mean()
    return float((centred * log_error).sum() / centred.square().sum())
