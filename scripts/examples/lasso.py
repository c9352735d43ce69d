"""The penalty of the lasso, tuned by the derivative of its solution.

scikit-learn solves w(α) = argmin_w ‖y − Xw‖²/2n + α‖w‖₁, and the implicit function theorem
differentiates what it returns, as the solution of the fixed-point equation

    F(w, α) = w − soft(w − ∇f(w)/L, α/L) = 0,   soft(z, t) = z − min(max(z, −t), t).

The script compares dw/dα with its closed form and with finite differences, finds the α with the
least error in five-fold cross-validation by the sign of the hypergradient (the folds are the batch)
and compares it with scikit-learn's path; and it shows a knot of the path, where no derivative
exists.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import brentq
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso, lars_path, lasso_path
from sklearn.preprocessing import PolynomialFeatures, scale
from torch import Tensor

from savi.gradients import ImplicitGradientWarning, SmoothnessNote
from savi.implicit import ImplicitSolution, root

FOLDS = 5


@dataclass(frozen=True)
class LeastSquares:
    """f_b(w) = ‖y_b − X_b w‖²/2n for every data set b: X [B, n, P], y [B, n]."""

    x: Tensor
    y: Tensor

    def residual(self, w: Tensor) -> Tensor:
        return (self.x @ w.unsqueeze(-1)).squeeze(-1) - self.y

    def gradient(self, w: Tensor) -> Tensor:
        """∇f(w), [B, P]."""
        return (self.x.mT @ self.residual(w).unsqueeze(-1)).squeeze(-1) / self.x.shape[1]

    def lipschitz(self) -> Tensor:
        """L: the largest eigenvalue of XᵀX/n, [B, 1]."""
        return torch.linalg.matrix_norm(self.x, 2).square().unsqueeze(-1) / self.x.shape[1]

    def mean_squared_error(self, w: Tensor) -> Tensor:
        return self.residual(w).square().mean(dim=-1)


def cross_validation() -> tuple[LeastSquares, LeastSquares]:
    """Training and held-out parts of the diabetes data with all interactions, 55 features."""
    x, y = load_diabetes(return_X_y=True)
    interactions = PolynomialFeatures(interaction_only=True, include_bias=False)
    order = np.random.default_rng(0).permutation(len(y))[: len(y) // FOLDS * FOLDS]
    x, y = scale(interactions.fit_transform(scale(x)))[order], scale(y)[order]
    parts = []
    for held_out in np.split(np.arange(len(y)), FOLDS):
        kept = np.setdiff1d(np.arange(len(y)), held_out)
        x_mean, y_mean = x[kept].mean(axis=0), y[kept].mean()
        parts.append([(x[i] - x_mean, y[i] - y_mean) for i in (kept, held_out)])
    train, test = (
        LeastSquares(*(torch.from_numpy(np.stack(arrays)) for arrays in zip(*part, strict=True)))
        for part in zip(*parts, strict=True)
    )
    return train, test


def fit(data: LeastSquares, alpha: Tensor) -> Tensor:
    """Step 1, scikit-learn's: a solution for every data set b at its penalty α_b."""
    solutions = [
        Lasso(alpha=a, fit_intercept=False, tol=1e-14, max_iter=10**6).fit(x, y).coef_
        for x, y, a in zip(data.x.numpy(), data.y.numpy(), alpha.tolist(), strict=True)
    ]
    return torch.from_numpy(np.stack(solutions))


def differentiable(
    data: LeastSquares, w: Tensor, alpha: Tensor, on_failure: str = "warn"
) -> ImplicitSolution:
    """Steps 2 to 4, the theorem's: w [B, P] as a function of α [B]."""
    lipschitz = data.lipschitz()

    def equations(w: Tensor, alpha: Tensor) -> Tensor:
        z, t = w - data.gradient(w) / lipschitz, alpha.unsqueeze(-1) / lipschitz
        return w - (z - z.clamp(-t, t))

    return root(equations, w, alpha, on_failure=on_failure)


def slope(data: LeastSquares, w: Tensor) -> Tensor:
    """dw/dα in closed form: −(X_SᵀX_S/n)⁻¹ sign(w_S) on the support S of w, 0 elsewhere."""
    result = torch.zeros_like(w)
    for row, x in enumerate(data.x):
        support = w[row] != 0
        gram = x[:, support].mT @ x[:, support] / len(x)
        result[row, support] = -torch.linalg.solve(gram, w[row, support].sign())
    return result


def slack(data: LeastSquares, w: Tensor, alpha: Tensor) -> Tensor:
    """The smallest α − |∇_j f| over j with w_j = 0, relative to α: 0 at a knot, [B]."""
    off = (alpha.unsqueeze(-1) - data.gradient(w).abs()).masked_fill(w != 0, math.inf)
    return off.amin(dim=-1) / alpha


def jacobian(solution: ImplicitSolution, alpha: Tensor) -> Tensor:
    """∂w/∂α of every row, [B, P]."""
    columns = [
        torch.autograd.grad(column.sum(), alpha, retain_graph=True)[0]
        for column in solution.value.unbind(-1)
    ]
    return torch.stack(columns, dim=-1)


def largest_penalty(data: LeastSquares) -> float:
    """Above it every solution is 0."""
    return float(data.gradient(torch.zeros_like(data.x[:, 0])).abs().max())


def check(train: LeastSquares, alpha: float) -> tuple[float, float]:
    """The largest error of ∂w/∂α beside the closed form, and beside finite differences of fits."""
    penalty = torch.full((FOLDS,), alpha, dtype=torch.float64, requires_grad=True)
    w, h = fit(train, penalty.detach()), 1e-6 * alpha
    found = jacobian(differentiable(train, w, penalty), penalty)
    measured = (fit(train, penalty.detach() + h) - fit(train, penalty.detach() - h)) / (2 * h)
    return float((found - slope(train, w)).abs().max()), float((found - measured).abs().max())


@dataclass
class Validation:
    """The cross-validated error and its derivative in log α, with a count of the fits they cost."""

    train: LeastSquares
    test: LeastSquares
    fits: int = 0

    def __call__(self, log_alpha: float) -> tuple[float, float]:
        variable = torch.tensor(log_alpha, dtype=torch.float64, requires_grad=True)
        alpha = variable.exp().expand(FOLDS)
        w = differentiable(self.train, fit(self.train, alpha.detach()), alpha).value
        error = self.test.mean_squared_error(w).mean()
        error.backward()
        self.fits += FOLDS
        return float(error.detach()), float(variable.grad)

    def minimise(self, start: float) -> tuple[float, float]:
        """The α of the minimum that lies downhill from ``start``, and the error there.

        Steps of a factor of 2 go downhill until the hypergradient changes sign; Brent's method
        finds where.
        """
        seen: dict[float, tuple[float, float]] = {}

        def hypergradient(log_alpha: float) -> float:
            if log_alpha not in seen:
                seen[log_alpha] = self(log_alpha)
            return seen[log_alpha][1]

        here = math.log(start)
        step = -math.copysign(math.log(2.0), hypergradient(here))
        while hypergradient(here) * hypergradient(here + step) > 0:
            here += step
        brentq(hypergradient, here, here + step, xtol=1e-3)
        best = min(seen, key=lambda log_alpha: seen[log_alpha][0])
        return math.exp(best), seen[best][0]


def by_path(
    train: LeastSquares, test: LeastSquares, points: int = 300
) -> tuple[np.ndarray, np.ndarray]:
    """A grid of α, and the cross-validated error on it by scikit-learn's path."""
    alphas, errors = np.geomspace(1.0, 1e-2, points) * largest_penalty(train), 0.0
    for x, y, x_test, y_test in zip(train.x, train.y, test.x, test.y, strict=True):
        _, w, _ = lasso_path(x.numpy(), y.numpy(), alphas=alphas, tol=1e-6, max_iter=10**5)
        fold = LeastSquares(x_test.unsqueeze(0), y_test.unsqueeze(0))
        errors = errors + fold.mean_squared_error(torch.from_numpy(w.T.copy())).numpy()
    return alphas, errors / FOLDS


def around_a_knot(train: LeastSquares, knot: int = 3) -> tuple[list[tuple], list[str]]:
    """Above, at and below a knot of the first fold's path: three examples of one batch.

    Returns:
        For each α, the features used, their slack, the slope of the feature that enters, and
        whether the certificate failed; and the certificate's reasons.
    """
    x, y = train.x[0], train.y[0]
    knots, _, path = lars_path(x.numpy(), y.numpy(), method="lasso")
    data = LeastSquares(x.expand(3, -1, -1), y.expand(3, -1))
    alpha = torch.from_numpy(knots[knot] * np.array([1.001, 1.0, 0.999])).requires_grad_()
    w = fit(data, alpha.detach())
    w[1] = torch.from_numpy(path[:, knot])
    with warnings.catch_warnings():  # The table shows what they say.
        warnings.simplefilter("ignore", ImplicitGradientWarning)
        solution = differentiable(data, w, alpha)
    (entering,) = ((w[2] != 0) & (w[0] == 0)).nonzero(as_tuple=True)[0].tolist()
    rows = zip(
        alpha.tolist(),
        (w != 0).sum(dim=-1).tolist(),
        slack(data, w, alpha.detach()).tolist(),
        jacobian(solution, alpha)[:, entering].tolist(),
        solution.certificate.failed.tolist(),
        strict=True,
    )
    return list(rows), solution.certificate.reasons


def main() -> None:
    torch.set_num_threads(2)
    # F is made of clamps; whether one is at its kink, the certificate sees by itself.
    warnings.simplefilter("ignore", SmoothnessNote)
    console = Console(width=100)
    train, test = cross_validation()
    largest = largest_penalty(train)
    closed, measured = check(train, largest / 10)
    console.print(f"dw/dα beside the closed form: {closed:.1e}, finite differences: {measured:.1e}")

    validation = Validation(train, test)
    alpha, error = validation.minimise(largest / 10)
    alphas, errors = by_path(train, test)
    best = errors.argmin()
    table = Table("five-fold cross-validation", "α", "held-out error", "fits")
    table.add_row("hypergradient", f"{alpha:.5f}", f"{error:.6f}", str(validation.fits))
    table.add_row(
        "scikit-learn's path",
        f"{alphas[best]:.5f}",
        f"{errors[best]:.6f}",
        str(FOLDS * len(alphas)),
    )
    console.print(table)

    rows, reasons = around_a_knot(train)
    table = Table("α", "features", "slack", "dw_j/dα of the one that enters", "certificate")
    for a, features, room, derivative, failed in rows:
        verdict = "failed" if failed else "holds"
        table.add_row(f"{a:.5f}", str(features), f"{room:.1e}", f"{derivative:+.4f}", verdict)
    console.print(table)
    console.print(*reasons, sep="\n")


if __name__ == "__main__":
    main()
