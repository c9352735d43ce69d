"""Softmax by the implicit function theorem: the report's first example, sections 3.1 to 3.3.

    python scripts/examples/softmax.py

It takes softmax as the solution of an optimisation problem, goes through the report's four steps
(a solution, the system of equations, the conditions, the derivative), and compares the derivative
with the closed form diag(x) − xxᵀ. Then it does the same with the report's own system of
equations, eq. 3, for utilities θ whose logsumexp comes close to 1: there one multiplier of that
system is 0, its Jacobian is singular, and the certificate says so.
"""

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from savi.implicit import ImplicitSolution, root
from savi.implicit.softmax import report_solution, report_system, softmax, softmax_jacobian

DISTANCES = (1.0, 1e-3, 1e-6, 1e-9, 0.0)


def utilities(n: int = 5) -> Tensor:
    return torch.randn(1, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def with_logsumexp(theta: Tensor, value: float) -> Tensor:
    """Shift θ, which leaves softmax where it is."""
    return theta - theta.logsumexp(dim=-1, keepdim=True) + value


def error(solution: ImplicitSolution, theta: Tensor) -> float:
    """‖∂x/∂θ − (diag(x) − xxᵀ)‖ / ‖diag(x) − xxᵀ‖ by one backward pass per item."""
    n = theta.shape[-1]
    rows = [
        torch.autograd.grad(solution.value[:, i].sum(), theta, retain_graph=True)[0]
        for i in range(n)
    ]
    closed_form = softmax_jacobian(theta.detach().softmax(dim=-1))
    return float((torch.stack(rows, dim=-2) - closed_form).norm() / closed_form.norm())


def by_report(theta: Tensor) -> ImplicitSolution:
    """The report's system; ``mask`` answers without a warning where there is no derivative."""
    return root(report_system, report_solution(theta), theta, on_failure="mask")


def four_steps(console: Console) -> None:
    theta = utilities().requires_grad_()
    solution = softmax(theta)
    certificate = solution.certificate
    n = theta.shape[-1]
    console.print("Softmax by its KKT conditions, log x + 1 − θ + u1 = 0 and 1ᵀx = 1")
    console.print(f"1 solution     x = {[round(p, 4) for p in solution.value[0].tolist()]}")
    console.print(f"2 equations    {n + 1} in x and u = {solution.equality_multipliers.item():.4f}")
    console.print(
        f"3 conditions   residual {float(certificate.residual):.0e}, condition number "
        f"{float(certificate.condition):.0f}, smallest curvature "
        f"{float(certificate.min_curvature):.2f}, failed {bool(certificate.failed)}"
    )
    console.print(
        f"4 derivative   relative error {error(solution, theta):.0e}, bound "
        f"{float(certificate.error_bound):.0e}\n"
    )


def near_the_singularity(console: Console) -> None:
    console.print("The report's eq. 3, whose feasibility is u(1ᵀx − 1) = 0, beside 1ᵀx = 1")
    table = Table()
    for column in ("logsumexp(θ) − 1", "condition", "error of ∂x/∂θ", "bound", "with 1ᵀx = 1"):
        table.add_column(column, justify="right")
    table.add_column("the certificate says")
    for distance in DISTANCES:
        theta = with_logsumexp(utilities(), 1.0 + distance).requires_grad_()
        solution = by_report(theta)
        certificate = solution.certificate
        reasons = [reason.split(",")[0] for reason in certificate.reasons]
        table.add_row(
            f"{distance:.0e}" if distance else "0",
            f"{float(certificate.condition):.0e}",
            f"{error(solution, theta):.0e}",
            f"{float(certificate.error_bound):.0e}",
            f"{error(softmax(theta), theta):.0e}",
            "; ".join(reasons) or "the conditions hold",
        )
    console.print(table)


def main() -> None:
    console = Console(width=120, highlight=False)
    four_steps(console)
    near_the_singularity(console)


if __name__ == "__main__":
    main()
