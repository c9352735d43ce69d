"""The benchmark ``cost``: what a whole outer step costs, and what its gradient is worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.table import Table

from benchmarks.cost import report
from benchmarks.cost.variants import PAIRED, Reference, Steps, Variant, by_steps, growing
from benchmarks.harness import Config, benchmark, check_not_empty, check_rising, write_csv
from benchmarks.outer_step import FLAT, all_backends, measure
from benchmarks.progress import Progress
from benchmarks.timing import chosen_device
from benchmarks.trained import TrainedConfig, trained_batch
from savi.errors import InputError, unknown_option
from savi.inner.optimizers import OPTIMIZERS
from savi.report.figures.style import save
from savi.settings import setting


@dataclass
class CostConfig(TrainedConfig):
    """Against what, and how often, an outer step is measured."""

    side: int | None = None
    train_steps: int = setting(1000, at_least=1)
    device: str = "cpu"
    steps: list[int] = field(default_factory=list)  # the numbers K
    long_steps: list[int] = field(default_factory=list)  # those for the backends of flat memory
    #: of the descent (see :func:`benchmarks.outer_step.stable_descent`).
    relative_lr: float = setting(2.0, above=0, below=float("inf"))
    momentum: float = 0.9
    reference_examples: int = setting(16, at_least=1)  # on which gradients are compared
    beside: str = "newton"  # an inner optimiser for one more line of ``cost.png``
    #: against which ``growth_optimizers`` with ``growth_steps`` are measured.
    batches: list[int] = field(default_factory=list)
    #: likewise, on models trained for ``growth_train_steps``.
    latent_dims: list[int] = field(default_factory=list)
    growth_optimizers: list[str] = field(default_factory=list)
    growth_steps: int = setting(5, at_least=1)
    growth_train_steps: int = setting(300, at_least=1)
    repetitions: int = setting(3, at_least=1)


@benchmark("cost", CostConfig)
def run_cost(config: Config, folder: Path) -> list[Table]:
    """Seconds, bytes and gradient error of an outer step on a trained VAE.

    Writes ``cost.csv``, a line for each variant; ``cost.png``, all three against K; and
    ``growth.png``, seconds and bytes against B and d. Returns seconds, bytes and errors against K,
    the other inner optimisers, and the growth.
    """
    _check(config)
    device = chosen_device(config["device"])
    largest, repetitions = max(config["batch"], *config["batches"]), config["repetitions"]
    with Progress((2 + repetitions) * _variants(config)) as progress:

        def advance(variant: Variant) -> None:
            progress.advance(f"{variant.backend}, {variant.optimizer}, K = {variant.K}")

        whole = trained_batch({**config, "batch": largest}).to(device)
        progress.say(f"a trained VAE; γ = {float(whole.model.gamma().mean()):.3g}")
        batch = whole.rows(config["batch"])
        steps, reference = by_steps(batch, config), Reference(batch, config["reference_examples"])
        costs = measure(steps, repetitions, advance, reference.error_of)
        progress.say(f"{len(steps)} outer steps against K")
        by_batch: Steps = {}
        for size in config["batches"]:
            by_batch |= growing("batch", whole.rows(size), config)
        costs |= measure(by_batch, repetitions, advance)
        progress.say("growth in B")
        by_dim: Steps = {}
        for latent_dim in config["latent_dims"]:
            model = {"latent_dim": latent_dim, "train_steps": config["growth_train_steps"]}
            one = trained_batch({**config, **model, "checkpoint": None}).to(device)
            by_dim |= growing("latent_dim", one, config)
        costs |= measure(by_dim, repetitions, advance)
        progress.say(f"growth in d; threads: {torch.get_num_threads()}, device: {device}")
    rows = [report.csv_row(variant, cost) for variant, cost in costs.items()]
    write_csv(folder / "cost.csv", rows)
    save(report.cost_against_steps(costs, config["beside"]), folder / "cost.png")
    save(report.growth(costs), folder / "growth.png")
    others = [report.optimizer_table(costs), report.growth_table(costs)]
    return [*report.backend_tables(costs), *others]


def _check(config: Config) -> None:
    for key in ("steps", "long_steps", "batches", "latent_dims"):
        wanted = "at least two rising numbers from 1 on, such as [1,5,20]"
        check_rising(key, config[key], wanted, least=1, count=2)
    if config["reference_examples"] > config["batch"]:
        raise InputError(
            f"reference_examples is {config['reference_examples']}, above batch "
            f"{config['batch']}: lower it"
        )
    check_not_empty(config, "growth_optimizers")
    named = {"growth_optimizers": config["growth_optimizers"], "beside": [config["beside"]]}
    for key, names in named.items():
        for name in names:
            if name not in OPTIMIZERS:
                raise unknown_option(f"optimizer of {key}", name, OPTIMIZERS)


def _variants(config: Config) -> int:
    """How many outer steps are measured."""
    counts = len(config["steps"])
    against_steps = len(all_backends()) * counts + len(FLAT) * len(config["long_steps"])
    optimizers = len(PAIRED) * (len(OPTIMIZERS) - 1) * counts
    sizes = len(config["batches"]) + len(config["latent_dims"])
    return against_steps + optimizers + len(PAIRED) * len(config["growth_optimizers"]) * sizes
