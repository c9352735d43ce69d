"""Meta-learning with implicit gradients (iMAML) on sinusoids, by ``savi.minimize``.

A task is a sine curve of which a network sees ten points. It adapts the meta-parameters θ by

    φ*_b(θ) = argmin_φ L_train,b(φ) + λ/2 ‖φ − θ‖²,

and is judged by L_test,b(φ*_b). One call of ``savi.minimize`` adapts a batch of tasks, one network
per row, and its backward is iMAML's meta-gradient (I + ∇²L_train/λ)⁻¹ ∇L_test. The script compares
that gradient with finite differences, shows what fewer steps of conjugate gradients cost, and
meta-trains θ: what it adapts to is compared with what an untrained network and one that was fitted
to all tasks jointly adapt to.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import savi
from savi.gradients import Certificate, Implicit, ImplicitGradientWarning
from savi.inner import LBFGS, AutogradObjective, Proximal, Solution

SIZES = (1, 40, 40, 1)
SHOTS = 10
STRENGTH = 4.0  #: λ


@dataclass(frozen=True)
class Tasks:
    """Curves a sin(x + p) with a in [0.1, 5] and p in [0, π], seen at x in [−5, 5]; all [B, N]."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor

    @classmethod
    def sample(cls, count: int, seed: int, dtype: torch.dtype = torch.float32) -> Tasks:
        generator = torch.Generator().manual_seed(seed)

        def uniform(low: float, high: float, size: int) -> Tensor:
            u = torch.rand(count, size, generator=generator, dtype=torch.float64)
            return (low + (high - low) * u).to(dtype)

        amplitude, phase = uniform(0.1, 5.0, 1), uniform(0.0, math.pi, 1)
        x, x_test = uniform(-5.0, 5.0, SHOTS), uniform(-5.0, 5.0, 50)
        return cls(x, amplitude * (x + phase).sin(), x_test, amplitude * (x_test + phase).sin())


def initial(
    seed: int, sizes: tuple[int, ...] = SIZES, dtype: torch.dtype = torch.float32
) -> Tensor:
    """θ [P]: W_1, b_1, W_2, … one after another, with variances 1/fan-in and biases of 0."""
    generator, parts = torch.Generator().manual_seed(seed), []
    for fan_in, fan_out in pairwise(sizes):
        w = torch.randn(fan_in * fan_out, generator=generator, dtype=torch.float64)
        parts += [w / math.sqrt(fan_in), torch.zeros(fan_out, dtype=torch.float64)]
    return torch.cat(parts).to(dtype).requires_grad_()


@dataclass(frozen=True)
class Network:
    """Perceptrons of one shape, one per row of φ [B, P], each at its own inputs x [B, N]."""

    sizes: tuple[int, ...] = SIZES
    activation: Callable[[Tensor], Tensor] = torch.tanh

    def __call__(self, phi: Tensor, x: Tensor) -> Tensor:
        h, used = x.unsqueeze(-1), 0
        for layer, (fan_in, fan_out) in enumerate(pairwise(self.sizes)):
            h = h if layer == 0 else self.activation(h)
            end = used + fan_in * fan_out
            w, b = phi[:, used:end].unflatten(-1, (fan_in, fan_out)), phi[:, end : end + fan_out]
            h, used = torch.baddbmm(b.unsqueeze(1), h, w), end + fan_out
        return h.squeeze(-1)

    def error(self, phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """L(φ): the mean squared error of each task, [B]."""
        return (self(phi, x) - y).square().mean(dim=-1)


NETWORK = Network()


def adapt(
    theta: Tensor,
    tasks: Tasks,
    gradient: Implicit,
    start: Tensor | None = None,
    max_steps: int = 100,
    rtol: float = 3e-3,
    network: Network = NETWORK,
) -> Solution:
    """φ*(θ) of every task, [B, P], differentiable in θ; the search begins at θ, or at ``start``."""
    anchor = theta.expand(len(tasks.x_train), -1)
    loss = AutogradObjective(lambda phi: network.error(phi, tasks.x_train, tasks.y_train))
    return savi.minimize(
        Proximal(loss, anchor, STRENGTH),
        anchor if start is None else start,
        optimizer=LBFGS(),
        gradient=gradient,
        max_steps=max_steps,
        rtol=rtol,
    )


def meta_loss(phi: Tensor, tasks: Tasks, network: Network = NETWORK) -> Tensor:
    """The mean over tasks of L_test(φ)."""
    return network.error(phi, tasks.x_test, tasks.y_test).mean()


def meta_gradient(
    theta: Tensor, tasks: Tasks, gradient: Implicit, phi: Tensor, network: Network = NETWORK
) -> tuple[Tensor, Certificate]:
    """∇_θ of the meta-loss at solutions φ* that are already known: the theorem asks for no more."""
    solution = adapt(theta, tasks, gradient, start=phi, max_steps=0, network=network)
    (result,) = torch.autograd.grad(meta_loss(solution.value, tasks, network), theta)
    return result, solution.certificate


def by_differences(theta: Tensor, tasks: Tasks, direction: Tensor, h: float = 1e-3) -> float:
    """The derivative of the meta-loss along a direction, by central differences."""
    losses = []
    for moved in (theta + h * direction, theta - h * direction):
        phi = adapt(moved.detach(), tasks, Implicit(), max_steps=500, rtol=1e-10).value
        losses.append(float(meta_loss(phi.detach(), tasks)))
    return (losses[0] - losses[1]) / (2 * h)


def check(console: Console) -> None:
    """The meta-gradient by finite differences, and by ever fewer steps of conjugate gradients."""
    tasks, theta = Tasks.sample(4, 1, torch.float64), initial(0, dtype=torch.float64)
    phi = adapt(theta.detach(), tasks, Implicit(), max_steps=500, rtol=1e-10).value
    exact, certificate = meta_gradient(theta, tasks, Implicit("cg", rtol=1e-12), phi)
    direction = torch.nn.functional.normalize(initial(2, dtype=torch.float64).detach(), dim=0)
    along, measured = float(exact @ direction), by_differences(theta, tasks, direction)
    console.print(f"meta-gradient along a direction: {along:.8f}")
    console.print(f"by finite differences:           {measured:.8f}")
    console.print(f"relative difference:             {abs(along / measured - 1):.1e}")
    console.print(f"certificate's bound:             {float(certificate.error_bound.max()):.1e}")
    table = Table("steps of CG", "error of the meta-gradient", "certificate's linear residual")
    for steps in (1, 2, 5, 10, 15):
        with warnings.catch_warnings():  # The certificate warns of exactly what the table shows.
            warnings.simplefilter("ignore", ImplicitGradientWarning)
            truncated = Implicit("cg", rtol=1e-12, max_steps=steps)
            result, certificate = meta_gradient(theta, tasks, truncated, phi)
        error = float((result - exact).norm() / exact.norm())
        residual = float(certificate.linear_residual.max())
        table.add_row(str(steps), f"{error:.1e}", f"{residual:.1e}")
    console.print(table)


def meta_train(steps: int = 120, batch: int = 10) -> tuple[Tensor, float]:
    """θ after ``steps`` of Adam on the meta-gradient, and how many tasks were left out, of all.

    Each step has new tasks. Those whose certificate fails are left out of it: ``mask`` drops their
    −H⁻¹v, and θ reaches the meta-loss by no other way.
    """
    theta, failed = initial(0), 0.0
    optimizer = torch.optim.Adam([theta], lr=1e-2)
    gradient = Implicit("cg", rtol=1e-3, max_steps=25, max_error=math.inf, on_failure="mask")
    for step in range(steps):
        tasks = Tasks.sample(batch, 1000 + step)
        solution = adapt(theta, tasks, gradient, max_steps=30)
        optimizer.zero_grad()
        meta_loss(solution.value, tasks).backward()
        optimizer.step()
        failed += float(solution.certificate.failed.float().mean())
    return theta.detach(), failed / steps


def train_jointly(steps: int = 1000, batch: int = 10) -> Tensor:
    """θ fitted to the points of all tasks at once, without adaptation."""
    theta = initial(0)
    optimizer = torch.optim.Adam([theta], lr=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        meta_loss(theta.expand(batch, -1), Tasks.sample(batch, 1000 + step)).backward()
        optimizer.step()
    return theta.detach()


def errors_of(theta: Tensor, tasks: Tasks) -> tuple[float, float]:
    """The mean test error of θ itself, and of what it adapts to."""
    theta = theta.detach()
    adapted = adapt(theta, tasks, Implicit()).value
    return tuple(
        float(meta_loss(phi, tasks)) for phi in (theta.expand_as(adapted), adapted.detach())
    )


def main() -> None:
    torch.set_num_threads(1)  # The matrices are small.
    console = Console(width=100)
    check(console)
    unseen = Tasks.sample(200, 99)
    meta_trained, left_out = meta_train()
    table = Table("start θ", "test error at θ", "test error after ten shots")
    for name, theta in (
        ("untrained", initial(0)),
        ("trained on all tasks jointly", train_jointly()),
        ("meta-trained by implicit gradients", meta_trained),
    ):
        table.add_row(name, *(f"{error:.2f}" for error in errors_of(theta, unseen)))
    console.print(table)
    console.print(f"{left_out:.1%} of the tasks failed their certificate and were left out")


if __name__ == "__main__":
    main()
