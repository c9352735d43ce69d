"""The theorem as a tool: a solution that any solver found, with its derivatives and certificate.

Three parts. Kepler's equation, solved by scipy for a batch of orbits, gets first and second
derivatives that are compared with their closed forms. The nearest point of an ellipse, found by
scipy as a constrained problem, gets derivatives in the ellipse's half-axes, compared with finite
differences. And each condition of the theorem is broken once, to show what the certificate says.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import optimize
from torch import Tensor

from savi.implicit import Problem, RootCertificate, kkt, root


def kepler(E: Tensor, e: Tensor, M: Tensor) -> Tensor:
    """E − e sin E = M: the eccentric anomaly E of an orbit with eccentricity e, mean anomaly M."""
    return E - e.unsqueeze(-1) * E.sin() - M.unsqueeze(-1)


def kepler_errors(orbits: int = 1000) -> dict[str, float]:
    """The largest errors of the derivatives of E over a batch of orbits."""
    torch.manual_seed(0)
    e = 0.9 * torch.rand(orbits, dtype=torch.float64)
    M = 6.0 * torch.rand(orbits, dtype=torch.float64)
    solved = optimize.newton(lambda E: E - e.numpy() * np.sin(E) - M.numpy(), M.numpy(), tol=1e-14)
    e.requires_grad_()
    M.requires_grad_()
    E = root(kepler, torch.as_tensor(solved).unsqueeze(-1), e, M).value.squeeze(-1)
    dE_de, dE_dM = torch.autograd.grad(E.sum(), (e, M), create_graph=True)
    (d2E_dM2,) = torch.autograd.grad(dE_dM.sum(), M)
    sin, speed = E.sin(), 1.0 - e * E.cos()
    exact = {
        "∂E/∂M": (dE_dM, 1.0 / speed),
        "∂E/∂e": (dE_de, sin / speed),
        "∂²E/∂M²": (d2E_dM2, -e * sin / speed**3),
    }
    return {name: ((a - b) / b).abs().max().item() for name, (a, b) in exact.items()}


NEAREST = Problem(
    lambda x, point, axes: 0.5 * (x - point).square().sum(-1),
    inequalities=lambda x, point, axes: (x / axes).square().sum(-1, keepdim=True) - 1.0,
)


def nearest(point: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The point of the ellipse (x₁/a)² + (x₂/b)² ≤ 1 that is nearest to another, by scipy."""
    inside = {"type": "ineq", "fun": lambda x: 1.0 - np.sum((x / axes) ** 2)}
    return optimize.minimize(
        lambda x: 0.5 * np.sum((x - point) ** 2), 0.1 * point, constraints=inside, tol=1e-15
    ).x


def ellipse() -> tuple[Tensor, Tensor]:
    """∂x/∂(a, b) of the nearest point, by the theorem and by finite differences of scipy's."""
    point, axes = np.array([3.0, 2.0]), np.array([2.0, 1.0])
    half_axes = torch.tensor(axes, requires_grad=True)
    x = torch.as_tensor(nearest(point, axes)).unsqueeze(0)
    value = kkt(NEAREST, x, torch.tensor(point), half_axes, tolerance=1e-5).value[0]
    rows = [torch.autograd.grad(v, half_axes, retain_graph=True)[0] for v in value]
    steps = 1e-4 * np.eye(2)
    columns = [(nearest(point, axes + s) - nearest(point, axes - s)) / 2e-4 for s in steps]
    return torch.stack(rows), torch.as_tensor(np.stack(columns, axis=-1))


def broken_conditions() -> list[tuple[str, RootCertificate]]:
    """A system for each condition, with the certificate at the point given."""
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    onto_positive = Problem(lambda x: 0.5 * x.square().sum(-1), inequalities=lambda x: -x)
    bowl_upside_down = Problem(lambda x: -(x**2).sum(-1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            ("x² − 1 = 0 at 1", root(lambda x: x**2 - 1.0, one).certificate),
            ("x² − 1 = 0 at 1.3", root(lambda x: x**2 - 1.0, 1.3 * one).certificate),
            ("x² = 0 at 0", root(lambda x: x**2, zero).certificate),
            ("x + |x|/2 = 0 at 0", root(lambda x: x + 0.5 * x.abs(), zero).certificate),
            ("min x²/2, x ≥ 0 at 0", kkt(onto_positive, zero).certificate),
            ("min −x² at 0", kkt(bowl_upside_down, zero).certificate),
        ]


def main() -> None:
    """Print all three."""
    torch.set_num_threads(2)
    console = Console(width=110)
    console.print("Kepler's equation, 1,000 orbits solved by scipy: largest relative errors")
    for name, error in kepler_errors().items():
        console.print(f"  {name:8} {error:.1e}")
    by_theorem, by_differences = ellipse()
    console.print("\nThe nearest point of an ellipse, ∂x/∂(a, b): the theorem, finite differences")
    for a, b in zip(by_theorem.tolist(), by_differences.tolist(), strict=True):
        console.print(f"  {a[0]:+.6f} {a[1]:+.6f}    {b[0]:+.6f} {b[1]:+.6f}")
    table = Table(title="The conditions, one broken at a time", title_justify="left")
    for name in ("equations", "κ(J)", "error bound", "the certificate"):
        table.add_column(name)
    for name, certificate in broken_conditions():
        table.add_row(
            name,
            f"{certificate.condition.item():.0f}",
            f"{certificate.error_bound.item():.1e}",
            "; ".join(certificate.reasons) or "holds",
        )
    console.print()
    console.print(table)


if __name__ == "__main__":
    main()
