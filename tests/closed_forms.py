"""Closed forms for the affine Gaussian VAE and for quadratic inner problems, in float64.

The model is z ~ N(0, I_d), x|z ~ N(Wz + b, γ I_D), with W [D, d], b [D] and γ a variance. Its
posterior is N(m, Λ⁻¹), so every bound, gap and gradient is known. Plain torch functions that share
no code with the package: tests compare the two.
"""

import torch
from torch import Tensor


def _double(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.as_tensor(tensor, dtype=torch.float64) for tensor in tensors)


def posterior_precision(w: Tensor, gamma: float | Tensor) -> Tensor:
    """Λ = I + WᵀW/γ, shape [d, d]."""
    w, gamma = _double(w, gamma)
    return torch.eye(w.shape[1], dtype=w.dtype) + w.mT @ w / gamma


def posterior_mean(x: Tensor, w: Tensor, b: Tensor, gamma: float | Tensor) -> Tensor:
    """m = Λ⁻¹Wᵀ(x − b)/γ, shape [B, d]."""
    x, w, b, gamma = _double(x, w, b, gamma)
    return torch.linalg.solve(posterior_precision(w, gamma), (x - b) @ w / gamma, left=False)


def best_diagonal_variances(w: Tensor, gamma: float | Tensor) -> Tensor:
    """1/Λ_ii, shape [d]: with mean m, the diagonal Gaussian that maximises the ELBO."""
    return 1.0 / posterior_precision(w, gamma).diagonal()


def approximation_gap(w: Tensor, gamma: float | Tensor) -> Tensor:
    """log p(x) − L[best diagonal q] = ½(Σ log Λ_ii − log det Λ), a scalar, the same for every x."""
    precision = posterior_precision(w, gamma)
    return 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))


def amortization_gap(
    mean: Tensor, variance: Tensor, x: Tensor, w: Tensor, b: Tensor, gamma: float | Tensor
) -> Tensor:
    """L[best diagonal q] − L[N(μ, diag s²)], shape [B], for μ and s² of shape [B, d].

    ½[(μ − m)ᵀΛ(μ − m) + Σ(Λ_ii s_i² − 1 − log Λ_ii s_i²)].
    """
    mean, variance = _double(mean, variance)
    precision = posterior_precision(w, gamma)
    error = mean - posterior_mean(x, w, b, gamma)
    ratio = precision.diagonal() * variance
    return 0.5 * (
        torch.einsum("bi,ij,bj->b", error, precision, error)
        + (ratio - 1.0 - ratio.log()).sum(dim=-1)
    )


def log_likelihood(x: Tensor, w: Tensor, b: Tensor, gamma: float | Tensor) -> Tensor:
    """log N(x; b, WWᵀ + γI), shape [B], in nats."""
    x, w, b, gamma = _double(x, w, b, gamma)
    covariance = w @ w.mT + gamma * torch.eye(w.shape[0], dtype=w.dtype)
    return torch.distributions.MultivariateNormal(b, covariance).log_prob(x)


def diagonal_elbo(
    mean: Tensor, variance: Tensor, x: Tensor, w: Tensor, b: Tensor, gamma: float | Tensor
) -> Tensor:
    """L[N(μ, diag s²)] = log p(x) − approximation gap − amortisation gap, shape [B]."""
    gaps = approximation_gap(w, gamma) + amortization_gap(mean, variance, x, w, b, gamma)
    return log_likelihood(x, w, b, gamma) - gaps


def covariance_eigenvalues(x: Tensor) -> Tensor:
    """Eigenvalues λ_i of the data covariance divided by n, largest first, shape [D]."""
    (x,) = _double(x)
    centred = x - x.mean(dim=0)
    return torch.linalg.eigvalsh(centred.mT @ centred / len(x)).flip(0)


def optimal_column_norms(
    eigenvalues: Tensor, latent_dim: int, gamma: float, beta: float = 1.0
) -> Tensor:
    """Squared column norms of the optimal W: max(0, λ_i − βγ) for the d largest λ_i.

    Column i is 0, and latent dimension i collapsed, iff λ_i ≤ βγ.
    """
    (eigenvalues,) = _double(eigenvalues)
    largest = eigenvalues.sort(descending=True).values[:latent_dim]
    return (largest - beta * gamma).clamp_min(0.0)


def maximum_likelihood_gamma(eigenvalues: Tensor, latent_dim: int) -> Tensor:
    """The mean of the D − d discarded eigenvalues (Tipping and Bishop 1999), β = 1."""
    (eigenvalues,) = _double(eigenvalues)
    return eigenvalues.sort(descending=True).values[latent_dim:].mean()


def mean_active_kl(eigenvalues: Tensor, latent_dim: int, gamma: float) -> Tensor:
    """Mean KL of each dimension at the optimum, ½ log(λ_i/γ) if λ_i > γ, else 0; shape [d]."""
    (eigenvalues,) = _double(eigenvalues)
    largest = eigenvalues.sort(descending=True).values[:latent_dim]
    return 0.5 * (largest / gamma).clamp_min(1.0).log()


def gradient_steps_jacobian(hessian: Tensor, lr: float, steps: int) -> Tensor:
    """∂λK/∂λ0 = (I − αH)^K of K gradient steps on a quadratic, for H [..., P, P]."""
    (hessian,) = _double(hessian)
    identity = torch.eye(hessian.shape[-1], dtype=hessian.dtype)
    return torch.linalg.matrix_power(identity - lr * hessian, steps)


def gradient_steps(
    start: Tensor, optimum: Tensor, hessian: Tensor, lr: float, steps: int
) -> Tensor:
    """λK = λ* + (I − αH)^K (λ0 − λ*), shape [B, P]."""
    start, optimum = _double(start, optimum)
    contraction = gradient_steps_jacobian(hessian, lr, steps)
    return optimum + (contraction @ (start - optimum).unsqueeze(-1)).squeeze(-1)


def proximal_jacobian(hessian: Tensor, rho: float) -> Tensor:
    """∂λ*/∂λ0 = (I + H/ρ)⁻¹ of argmin J(λ) + ρ/2 ‖λ − λ0‖², H the Hessian of J alone."""
    (hessian,) = _double(hessian)
    identity = torch.eye(hessian.shape[-1], dtype=hessian.dtype)
    return torch.linalg.inv(identity + hessian / rho)
