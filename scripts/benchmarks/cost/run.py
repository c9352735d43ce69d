"""The benchmark ``cost``: what a whole outer step costs, and what its gradient is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.cost.figure import cost_against_steps, growth
from benchmarks.cost.growth import by_batch, of_latent_dim
from benchmarks.cost.measure import Cost, Reference, measure
from benchmarks.cost.tables import backend_tables, growth_table, long_table, optimizer_table
from benchmarks.cost.variants import PAIRED, OuterStep, Variant, all_backends, by_steps
from benchmarks.device import chosen_device
from benchmarks.files import write_csv
from benchmarks.memory.targets import FLAT
from benchmarks.progress import Progress
from benchmarks.registry import BENCHMARKS
from benchmarks.trained import TrainedBatch, trained_batch
from savi.errors import InputError, require_at_least, unknown_option
from savi.inner.optimizers import OPTIMIZERS
from savi.report.figures.style import save

MINIMA = {
    "batch": 1, "repetitions": 1, "reference_examples": 1, "growth_steps": 1,
    "growth_train_steps": 1,
}  # fmt: skip


@BENCHMARKS.register("cost")
def run_cost(config: Mapping[str, Any], folder: Path) -> list[Table]:
    """Seconds, bytes and gradient error of an outer step on a trained VAE.

    Writes ``cost.csv``, a line for each variant; ``cost.png``, all three against K; and
    ``growth.png``, seconds and bytes against B and d.

    Args:
        config: see :func:`benchmarks.trained.trained_batch`; ``device``; the numbers K as
            ``steps``, and as ``long_steps`` for the backends of flat memory; ``relative_lr`` and
            ``momentum`` of the descent (see :func:`stable_descent`); ``reference_examples``, on
            which gradients are compared; ``beside``, an inner optimiser for one more line of
            ``cost.png``; ``batches`` and ``latent_dims``, against which
            ``growth_optimizers`` with ``growth_steps`` are measured, the latter on models trained
            for ``growth_train_steps``; ``repetitions`` of each timing.
        folder: where the files go.

    Returns:
        Seconds, bytes and errors against K, the other inner optimisers, and the growth.

    Raises:
        InputError: for unknown names and values out of range.
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
        steps = by_steps(batch, config)
        reference = Reference(batch, config["reference_examples"])
        costs = measure(steps, repetitions, advance, reference.error_of)
        progress.say(f"{len(steps)} outer steps against K")
        costs |= measure(by_batch(whole, config), repetitions, advance)
        progress.say("growth in B")
        by_dim: dict[Variant, OuterStep[TrainedBatch]] = {}
        for latent_dim in config["latent_dims"]:
            by_dim |= of_latent_dim(latent_dim, config, device)
        costs |= measure(by_dim, repetitions, advance)
        progress.say(f"growth in d; threads: {torch.get_num_threads()}, device: {device}")
    write_csv(folder / "cost.csv", _rows(costs))
    save(cost_against_steps(costs, config["beside"]), folder / "cost.png")
    save(growth(costs), folder / "growth.png")
    return [
        *backend_tables(costs),
        long_table(costs),
        optimizer_table(costs),
        growth_table(costs),
    ]


def _variants(config: Mapping[str, Any]) -> int:
    """How many outer steps are measured."""
    counts = len(config["steps"])
    against_steps = len(all_backends()) * counts + len(FLAT) * len(config["long_steps"])
    optimizers = len(PAIRED) * (len(OPTIMIZERS) - 1) * counts
    sizes = len(config["batches"]) + len(config["latent_dims"])
    growing = len(PAIRED) * len(config["growth_optimizers"]) * sizes
    return against_steps + optimizers + growing


def _check(config: Mapping[str, Any]) -> None:
    for key, least in MINIMA.items():
        require_at_least(key, config[key], least)
    for key in ("steps", "long_steps", "batches", "latent_dims"):
        _require_rising(key, config[key])
    if not 0 < config["relative_lr"] < float("inf"):
        raise InputError(f"relative_lr is {config['relative_lr']}: set it above 0")
    if config["reference_examples"] > config["batch"]:
        raise InputError(
            f"reference_examples is {config['reference_examples']}, above batch "
            f"{config['batch']}: lower it"
        )
    if not config["growth_optimizers"]:
        raise InputError("growth_optimizers is []: name at least one")
    for key, names in (
        ("growth_optimizers", config["growth_optimizers"]),
        ("beside", [config["beside"]]),
    ):
        for name in names:
            if name not in OPTIMIZERS:
                raise unknown_option(f"optimizer of {key}", name, OPTIMIZERS)


def _require_rising(key: str, numbers: Sequence[int]) -> None:
    if len(numbers) < 2 or numbers[0] < 1 or list(numbers) != sorted(set(numbers)):
        raise InputError(
            f"{key} is {numbers}: give at least two rising numbers from 1 on, such as [1,5,20]"
        )


def _rows(costs: Mapping[Variant, Cost]) -> list[dict[str, Any]]:
    """A line for each variant; empty cells where it was refused, or nothing was measured."""
    rows = []
    for variant, cost in costs.items():
        memory = cost.memory
        rows.append(
            variant._asdict()
            | {
                "seconds": cost.timing.median if cost.timing.seconds else None,
                "saved": memory and memory.saved,
                "peak": memory and memory.live,
                "allocated": memory and memory.allocated,
                "error": cost.error,
                "refusal": cost.timing.refusal,
            }
        )
    return rows
