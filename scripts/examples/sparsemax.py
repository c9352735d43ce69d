"""Sparsemax, the projection onto the simplex: the report's extension of softmax, section 3.5.

    python scripts/examples/sparsemax.py

It solves the projection with its multipliers, compares the derivative in closed form with that of
the implicit function theorem on the KKT conditions, and walks θ across a kink, where an item
leaves the support and there is no derivative: the distance to it shrinks to 0, and both the layer
and the theorem's certificate say so. Last, it compares the layer's time with the theorem's.
"""

import time
import warnings
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from savi.implicit import kkt
from savi.implicit.reporter import ImplicitGradientWarning
from savi.implicit.sparsemax import simplex_projection_problem, sparsemax, sparsemax_solution

#: Where the first two items share, and the third is out.
THETA = (0.9, 0.5, -0.4)


def by_theorem(theta: Tensor, on_failure: str = "warn") -> Tensor:
    x = sparsemax(theta.detach())
    return kkt(simplex_projection_problem(), x, theta, on_failure=on_failure).value


def jacobian(function: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    """∂x/∂θ of every example, one backward pass per item."""
    theta = theta.clone().requires_grad_()
    x = function(theta)
    rows = [
        torch.autograd.grad(x[:, i].sum(), theta, retain_graph=True)[0] for i in range(x.shape[-1])
    ]
    return torch.stack(rows, dim=-2)


def warned(function: Callable[[], Tensor]) -> str:
    """Whether a derivative was taken with a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    kinks = [w for w in caught if issubclass(w.category, ImplicitGradientWarning)]
    return "warns" if kinks else "quiet"


def solution_and_derivative(console: Console) -> None:
    theta = torch.tensor([THETA], dtype=torch.float64)
    solution = sparsemax_solution(theta)
    difference = (jacobian(sparsemax, theta) - jacobian(by_theorem, theta)).abs().max()
    console.print(f"θ = {list(THETA)}")
    console.print(f"x = {[round(p, 4) for p in solution.value[0].tolist()]}")
    console.print(f"threshold τ = {float(solution.threshold):.4f}")
    console.print(
        f"multipliers of x ≥ 0: {[round(p, 4) for p in solution.multipliers[0].tolist()]}"
    )
    console.print(f"∂x/∂θ = {(jacobian(sparsemax, theta)[0] + 0.0).tolist()}")
    console.print(
        f"largest difference to the theorem on the KKT conditions: {float(difference):.0e}\n"
    )


def across_a_kink(console: Console) -> None:
    console.print("The second utility falls until its item leaves")
    table = Table()
    for column in ("θ₂", "x₂", "multiplier", "margin", "∂x₁/∂θ₁", "the layer", "the theorem"):
        table.add_column(column, justify="right")
    for second in (0.5, 0.0, -0.099, -0.1, -0.101, -0.3):
        theta = torch.tensor([[THETA[0], second, THETA[2]]], dtype=torch.float64)
        solution = sparsemax_solution(theta)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImplicitGradientWarning)
            slope = float(jacobian(sparsemax, theta)[0, 0, 0])
        table.add_row(
            f"{second:.3f}",
            f"{float(solution.value[0, 1]):.4f}",
            f"{float(solution.multipliers[0, 1]):.4f}",
            f"{float(solution.margin):.4f}",
            f"{slope:.1f}",
            warned(lambda theta=theta: jacobian(sparsemax, theta)),
            warned(lambda theta=theta: jacobian(by_theorem, theta)),
        )
    console.print(table)


def seconds(function: Callable[[Tensor], Tensor], theta: Tensor, repeats: int) -> float:
    """The fastest forward and backward pass."""
    times = []
    for _ in range(repeats):
        theta = theta.clone().requires_grad_()
        start = time.perf_counter()
        function(theta).square().sum().backward()
        times.append(time.perf_counter() - start)
    return min(times)


def price_of_generality(console: Console) -> None:
    theta = torch.randn(64, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer, theorem = seconds(sparsemax, theta, 20), seconds(by_theorem, theta, 3)
    console.print(
        f"\n64 examples of 10 items, forward and backward: closed form {1e3 * layer:.2f} ms, "
        f"theorem on the KKT conditions {1e3 * theorem:.1f} ms"
    )


def main() -> None:
    torch.set_num_threads(2)
    console = Console(width=120, highlight=False)
    solution_and_derivative(console)
    across_a_kink(console)
    price_of_generality(console)


if __name__ == "__main__":
    main()
