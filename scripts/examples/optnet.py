"""OptNet: a layer whose output solves a quadratic program, section 4 of the report.

    python scripts/examples/optnet.py

It compares the layer's Jacobian with finite differences, shows how a batch fares in which some
programs have no solution, and learns the constraints of a hidden program from pairs of its costs q
and solutions x*: from a square, the layer's Gx <= 1 comes to the hidden polygon.
"""

import math
import warnings

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from savi.implicit.qp import QPLayer, QPStatus, QPWarning

EYE = torch.eye(2, dtype=torch.float64)


def jacobian_error(seed: int = 0) -> dict[str, float]:
    """The largest relative error of ∂x/∂θ for each parameter θ, against central differences."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    L, inside = normal(4, 4), normal(4)
    A, G = normal(1, 4), normal(5, 4)
    parameters = [L @ L.T + torch.eye(4).double(), normal(4), A, A @ inside, G, G @ inside + 0.1]
    layer, errors = QPLayer(), {}
    for name, index in zip("QqAbGh", range(6), strict=True):

        def x(theta: Tensor, index: int = index) -> Tensor:
            changed = [*parameters[:index], theta, *parameters[index + 1 :]]
            return layer(*changed).value[0]

        theta = parameters[index]
        exact = torch.autograd.functional.jacobian(x, theta).flatten(1)
        steps = 1e-6 * torch.eye(theta.numel()).double().view(-1, *theta.shape)
        columns = [(x(theta + step) - x(theta - step)) / 2e-6 for step in steps]
        numeric = torch.stack(columns, dim=1)
        errors[name] = float((exact - numeric).abs().max() / numeric.abs().max())
    return errors


def failures() -> tuple[list[str], list[bool], str]:
    """The statuses of a batch of four, which gradients are 0, and the warning."""
    Q = torch.stack([EYE, EYE, 0.0 * EYE, torch.diag(torch.tensor([1.0, -1.0]).double())])
    Q.requires_grad_()
    h = torch.tensor([[0.5, 0.5], [-1.0, -1.0], [0.5, 0.5], [0.5, 0.5]]).double()
    G = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", QPWarning)
        solution = QPLayer()(Q, torch.ones(2).double(), G=G, h=h)
    (gradient,) = torch.autograd.grad(solution.value.sum(), Q)
    names = [QPStatus(status).label for status in solution.status.tolist()]
    return names, (gradient == 0).flatten(1).all(dim=1).tolist(), str(caught[0].message)


def regular_polygon(sides: int, turn: float = 0.0) -> Tensor:
    """G of Gx <= 1, with the given number of sides at distance 1 from the origin."""
    angle = turn + 2.0 * math.pi * torch.arange(sides).double() / sides
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def hidden_polygon() -> Tensor:
    """Five sides at different distances."""
    return regular_polygon(5, turn=0.4) / torch.tensor([0.7, 1.0, 0.9, 0.8, 1.1]).double()[:, None]


def learn(steps: int = 400, examples: int = 128) -> tuple[list[float], Tensor]:
    """The losses, and G after descent on ‖x(G) − x*‖² from (q, x*) with Q = I and h = 1."""
    layer, ones = QPLayer(), torch.ones(5).double()
    q = 2.0 * torch.randn(examples, 2, generator=torch.Generator().manual_seed(1)).double()
    target = layer(EYE, q, G=hidden_polygon(), h=ones).value
    G = regular_polygon(5, turn=0.1).requires_grad_()
    optimizer = torch.optim.Adam([G], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (layer(EYE, q, G=G, h=ones).value - target).square().sum(dim=1).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses, G.detach()


def vertices(G: Tensor) -> Tensor:
    """Where neighbouring sides of Gx <= 1 meet, in the order of their angles."""
    G = G[torch.atan2(G[:, 1], G[:, 0]).argsort()]
    return torch.linalg.solve(
        torch.stack([G, G.roll(-1, 0)], dim=1), torch.ones(len(G), 2).double()
    )


def main() -> None:
    torch.set_num_threads(1)  # such small matrices gain nothing from more
    console = Console(width=110)
    errors = ", ".join(f"{name} {error:.0e}" for name, error in jacobian_error().items())
    console.print(f"Jacobian against finite differences, largest relative error: {errors}\n")
    names, zero, message = failures()
    console.print(f"A batch of four: {', '.join(names)}; gradient is 0: {zero}")
    console.print(f"{message}\n")
    losses, G = learn()
    table = Table("step", "mean ‖x − x*‖²", title="Learning the constraints", title_justify="left")
    for step in (0, 50, 100, 200, len(losses) - 1):
        table.add_row(str(step), f"{losses[step]:.1e}")
    console.print(table)
    corners = Table("hidden vertex", "learned vertex", "distance")
    for true, found in zip(vertices(hidden_polygon()), vertices(G), strict=True):
        pair = [f"({x:+.6f}, {y:+.6f})" for x, y in (true.tolist(), found.tolist())]
        corners.add_row(*pair, f"{float((true - found).norm()):.0e}")
    console.print(corners)


if __name__ == "__main__":
    main()
