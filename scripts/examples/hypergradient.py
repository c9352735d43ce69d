"""Hypergradients of small VAEs, with a grid of retrained models as the judge.

    python scripts/examples/hypergradient.py

A VAE with two latents sees eight points in five dimensions, so few that its hyperparameters decide
what it is worth on a hundred others. For each hyperparameter it is trained to a minimum at every
point of a grid; then descent along the hypergradient starts at a bad value, and retrains the model
from where it is after every step. ρ needs an inner solve for each example, the proximal problem;
the others are shown on the amortised VAE. The last rows are γ and β together, on a grid of pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from savi.config import schema
from savi.experiments.loggers import quieten_libraries
from savi.implicit.hypergradient import Hypergradient, hypergradient
from savi.implicit.weight_hessian import WeightHessian, flat
from savi.training import SemiAmortizedVAE
from savi.training.hypergradient.losses import Bilevel

DEFAULTS = {"gamma": 0.5, "beta": 1.0, "rho": 5.0, "weight_decay": 0.03}
STARTS = {"gamma": 1.5, "beta": 2.5, "rho": 10.0, "weight_decay": 0.3}
GRIDS = {
    "gamma": (0.3, 0.4, 0.5, 0.6, 0.9),
    "beta": (0.2, 0.3, 0.45, 0.7, 1.0),
    "rho": (1.0, 2.0, 4.0, 10.0),
    "weight_decay": (0.01, 0.03, 0.06, 0.1, 0.2),
}
TUNED = (("gamma",), ("beta",), ("weight_decay",), ("rho",), ("gamma", "beta"))
SOLVERS = ("neumann", "cg", "nystrom")
LARGEST_MOVE = 0.7  #: of a step, in a logarithm

Hyper = Mapping[str, float]


def observations(n: int, generator: torch.Generator) -> Tensor:
    """A slightly bent plane in five dimensions, with noise of variance 0.25."""
    plane = torch.tensor([[1.5, -0.8, 0.5, 1.0, 0.2], [0.3, 0.9, -1.0, 0.6, 1.1]]).double()
    y = torch.randn(n, 2, generator=generator, dtype=torch.float64) @ plane
    noise = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    return y + 0.3 * torch.sin(2.0 * y) + 0.5 * noise


def small_vae(solved: bool, train: int = 8, val: int = 100) -> Bilevel:
    """Both losses of a VAE with affine networks, with an inner solve or without, in float64."""
    generator = torch.Generator().manual_seed(0)
    x, held_out = observations(train, generator), observations(val, generator)
    torch.manual_seed(0)
    gamma = schema.GammaConfig("fixed", DEFAULTS["gamma"])
    module = SemiAmortizedVAE(
        data_shape=(5,),
        data_variance=float(x.var()),
        model=asdict(schema.ModelConfig(latent_dim=2, depth=0, gamma=gamma)),
        posterior=asdict(schema.PosteriorConfig()),
        inner=asdict(schema.InnerConfig(objective="proximal", max_steps=5 if solved else 0)),
        gradient=asdict(schema.GradientConfig("ift" if solved else "unrolled")),
        encoder_loss=asdict(schema.EncoderLossConfig(through=1.0)),
        optimizer=asdict(schema.OptimizerConfig()),
        evaluation=asdict(schema.EvaluationConfig()),
    )
    return Bilevel.of(module.outer_loss, x, held_out, samples=4)


@dataclass
class Model:
    """A VAE that is trained for given hyperparameters.

    Attributes:
        losses: both levels.
        fixed: the hyperparameters that are not tuned.
        spectrum: eigenvalues and eigenvectors of the last Hessian.
    """

    losses: Bilevel
    fixed: Hyper
    spectrum: tuple[Tensor, Tensor] | None = None

    def train(self, hyper: Hyper, tolerance: float = 1e-4, max_steps: int = 100) -> float:
        """Newton's method with |H| + δI for H, kept while it serves; returns ‖∇_w train‖."""
        h, weights = self.tensors(hyper), self.losses.weights
        damping, size = 1e-6, 0.0
        for _ in range(max_steps):
            loss = self.losses.train_loss(h)
            parts = torch.autograd.grad(loss, weights, create_graph=True)
            gradient = flat(parts, weights)
            before, size = size, float(gradient.detach().norm())
            if size < tolerance:
                break
            if self.spectrum is None or (before > 0.0 and size > 0.7 * before):
                hessian = WeightHessian.of(parts, weights).hessian()[0]
                self.spectrum = torch.linalg.eigh(hessian)
            eigenvalues, q = self.spectrum
            rotated = q.T @ gradient[0].detach()
            here = [w.detach().clone() for w in weights]
            while damping < 1e6:
                self.move(here, -q @ (rotated / (eigenvalues.abs() + damping)))
                with torch.no_grad():
                    there = float(self.losses.train_loss(h))
                if there <= float(loss.detach()) + 1e-12:
                    break
                damping *= 10.0
            damping *= 0.1
        return size

    @torch.no_grad()
    def move(self, here: Sequence[Tensor], step: Tensor) -> None:
        weights = self.losses.weights
        parts = step.split([w.numel() for w in weights])
        for w, start, part in zip(weights, here, parts, strict=True):
            w.copy_(start + part.view_as(w))

    def tensors(self, hyper: Hyper) -> dict[str, Tensor]:
        return {
            name: torch.tensor(value, dtype=torch.float64)
            for name, value in {**self.fixed, **hyper}.items()
        }

    def bound(self, hyper: Hyper) -> float:
        """The validation ELBO at the weights as they are."""
        with torch.no_grad():
            return -float(self.losses.val_loss(self.tensors(hyper)))

    def hypergradient(self, hyper: Hyper, solver: str) -> Hypergradient:
        """That of the negative validation ELBO in the logarithms of the hyperparameters."""
        logs = {name: h.log().requires_grad_() for name, h in self.tensors(hyper).items()}
        h = {name: log.exp() for name, log in logs.items()}
        return hypergradient(
            self.losses.train_loss(h),
            self.losses.val_loss(h),
            self.losses.weights,
            [logs[name] for name in hyper],
            solver=solver,
            rtol=1e-3,
            max_steps=None if solver == "cholesky" else 200,
            on_failure="silent",
        )


def model(names: Sequence[str]) -> Model:
    """The VAE on which these are shown."""
    solved = "rho" in names
    fixed = {n: v for n, v in DEFAULTS.items() if n not in names and (solved or n != "rho")}
    return Model(small_vae(solved), fixed)


def grid(names: Sequence[str]) -> list[Hyper]:
    """All points; of pairs those in the middle of each grid."""
    lines = [GRIDS[name] if len(names) == 1 else GRIDS[name][1:4] for name in names]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*lines)]


def grid_search(names: Sequence[str], trained: Model) -> tuple[Hyper, float]:
    """The point of the grid with the highest validation ELBO after training there."""
    points = grid(names)
    bounds = []
    for point in points:
        trained.train(point)
        bounds.append(trained.bound(point))
    best = max(range(len(points)), key=bounds.__getitem__)
    return points[best], bounds[best]


def descend(names: Sequence[str], trained: Model, solver: str, steps: int = 20) -> list[Hyper]:
    """Gradient descent in the logarithms from STARTS, retraining after every step.

    The step size is that of Barzilai and Borwein (1988), sᵀs / |sᵀy| for the last step s and the
    change y of the gradient; no step is larger than LARGEST_MOVE.
    """
    logs = torch.tensor([STARTS[name] for name in names], dtype=torch.float64).log()
    path, last, gradient = [], None, None
    for _ in range(steps):
        hyper = dict(zip(names, logs.exp().tolist(), strict=True))
        path.append(hyper)
        trained.train(hyper)
        before, gradient = gradient, torch.stack(trained.hypergradient(hyper, solver).gradients)
        rate = LARGEST_MOVE / float(gradient.norm())
        if last is not None:
            rate = float(last @ last / (last @ (gradient - before)).abs())
        last = -rate * gradient
        last = last * min(1.0, LARGEST_MOVE / float(last.norm()))
        if float(last.norm()) < 0.02:
            break
        logs = logs + last
    return path


def shown(hyper: Hyper) -> str:
    return ", ".join(f"{value:.3g}" for value in hyper.values())


def main() -> None:
    torch.set_num_threads(1)
    quieten_libraries()
    table = Table("tuned", "by", "steps", "value", "validation ELBO", title="Hypergradients")
    for names in TUNED:
        trained = model(names)
        start = {name: STARTS[name] for name in names}
        trained.train(start)
        label = ", ".join(names)
        table.add_row(label, "start", "", shown(start), f"{trained.bound(start):.3f}")
        for solver in SOLVERS:
            path = descend(names, trained, solver)
            bound = f"{trained.bound(path[-1]):.3f}"
            table.add_row("", solver, str(len(path)), shown(path[-1]), bound)
        best, bound = grid_search(names, trained)
        table.add_row(
            "", f"grid of {len(grid(names))}", "", shown(best), f"{bound:.3f}", end_section=True
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
