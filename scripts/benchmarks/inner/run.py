"""The benchmark ``inner``: which inner optimiser solves first, and what training then costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.device import chosen_device
from benchmarks.files import write_csv
from benchmarks.images import read_images
from benchmarks.inner.candidates import Trial, is_tuned, tuned
from benchmarks.inner.curves import curves
from benchmarks.inner.figure import stationarity
from benchmarks.inner.race import BASE, across_gamma, race
from benchmarks.inner.rows import inner_rows, training_rows
from benchmarks.inner.tables import gamma_table, race_table, sweep_table, training_table
from benchmarks.inner.training import build_modules, compare_training, train_amortised
from benchmarks.progress import Progress
from benchmarks.quiet import quiet
from benchmarks.registry import BENCHMARKS
from benchmarks.trained import TrainedBatch, trained_batch
from savi.errors import InputError, require_at_least, unknown_option
from savi.inner.optimizers import OPTIMIZERS
from savi.report.figures.style import save

MINIMA = {
    "batch": 1, "sweep_examples": 1, "max_steps": 1, "training_max_steps": 1, "repetitions": 1,
}  # fmt: skip


@BENCHMARKS.register("inner")
def run_inner(config: Mapping[str, Any], folder: Path) -> list[Table]:
    """Solve the inner problems of a trained VAE with every optimiser, and train with the solves.

    Writes ``inner.csv``, a line for each optimiser and what was measured of it in the parts
    ``sweep``, ``curve``, ``race`` and ``gamma``; ``inner_training.csv``, a line for each
    configuration of training; and ``inner.png``.

    Args:
        config: see :func:`benchmarks.trained.trained_batch`; ``device``; ``optimizers`` by
            name, None for all; ``learning_rates``, which first-order ones try on
            ``sweep_examples``; ``rtol``, the relative stationarity that counts as solved, within
            ``max_steps``; ``curve_steps``, the numbers K at which curves are drawn; ``gammas``,
            factors on γ; ``training``, configurations (see
            :data:`benchmarks.inner.training.PLACES`) that train with at most
            ``training_max_steps``; ``repetitions`` of each timing.
        folder: where the files go.

    Returns:
        The sweep, the race, the robustness against γ, and the cost of training.

    Raises:
        InputError: for unknown names and values out of range.
    """
    names = _check(config)
    device = chosen_device(config["device"])
    images = read_images(config["dataset"], config["data_path"], config["side"], config["seed"])
    modules = build_modules(config, images)
    max_steps, rtol = config["max_steps"], config["rtol"]
    with Progress(_parts(config, names, len(modules))) as progress, quiet():
        batch = trained_batch(config).to(device)
        progress.say(f"a trained VAE; γ = {float(batch.model.gamma().mean()):.3g}")
        sweeps, refusals = _sweep(config, names, batch, progress)
        progress.say("step sizes")
        best = {name: trials[0].optimizer for name, trials in sweeps.items()}
        drawn = curves(best, batch, config["curve_steps"], config["repetitions"])
        progress.say("curves")
        finishes = race(
            best,
            batch,
            max_steps=max_steps,
            rtol=rtol,
            repetitions=config["repetitions"],
            advance=progress.advance,
        )
        progress.say("the race")
        robust = across_gamma(
            [trials[0] for trials in sweeps.values()],
            batch,
            config["gammas"],
            max_steps=max_steps,
            rtol=rtol,
            advance=progress.advance,
        )
        progress.say("other γ")
        train_amortised(modules, config, images, progress.advance)
        training = compare_training(
            modules, images, config["repetitions"], device, progress.advance
        )
        progress.say(f"training; threads: {torch.get_num_threads()}, device: {device}")
    write_csv(folder / "inner.csv", inner_rows(sweeps, drawn, finishes, robust))
    write_csv(folder / "inner_training.csv", training_rows(config["training"], training))
    labels = {name: _label(trials[0]) for name, trials in sweeps.items()}
    ranked = sorted(finishes, key=lambda n: (not finishes[n].reached, finishes[n].timing.median))
    save(stationarity({labels[name]: drawn[name] for name in ranked}, rtol), folder / "inner.png")
    return [
        sweep_table(sweeps, rtol),
        race_table(finishes, labels, refusals, rtol),
        gamma_table(robust, max_steps, rtol),
        training_table(training, rtol),
    ]


def _sweep(
    config: Mapping[str, Any], names: list[str], batch: TrainedBatch, progress: Progress
) -> tuple[dict[str, list[Trial]], dict[str, str]]:
    """The trials of each optimiser, the best first, and why others refuse the problem."""
    few = batch.rows(config["sweep_examples"])
    sweeps: dict[str, list[Trial]] = {}
    refusals: dict[str, str] = {}
    for name in names:
        found = tuned(
            name,
            config["learning_rates"],
            few,
            config["max_steps"],
            config["rtol"],
            progress.advance,
        )
        if isinstance(found, str):
            refusals[name] = found
        else:
            sweeps[name] = found
    return sweeps, refusals


def _label(trial: Trial) -> str:
    return trial.name if trial.lr is None else f"{trial.name}, lr {trial.lr:g}"


def _parts(config: Mapping[str, Any], names: list[str], modules: int) -> int:
    """How often progress is made, at most."""
    rates, repetitions = len(config["learning_rates"]), config["repetitions"]
    sweeps = sum(rates if is_tuned(name) else 1 for name in names)
    solves = len(names) * (2 + repetitions + len(config["gammas"]))
    return sweeps + solves + modules * (2 + repetitions)


def _check(config: Mapping[str, Any]) -> list[str]:
    """Refuse what is out of range; the names of the optimisers."""
    for key, least in MINIMA.items():
        require_at_least(key, config[key], least)
    if not 0 < config["rtol"] < 1:
        raise InputError(f"rtol is {config['rtol']}: set it between 0 and 1")
    for key in ("learning_rates", "gammas"):
        if not config[key] or not all(0 < value < float("inf") for value in config[key]):
            raise InputError(f"{key} is {config[key]}: give numbers above 0")
    steps = config["curve_steps"]
    if len(steps) < 2 or steps[0] < 0 or steps != sorted(set(steps)):
        raise InputError(f"curve_steps is {steps}: give rising numbers, such as [1,2,3,5,8]")
    if config["sweep_examples"] > config["batch"]:
        raise InputError(
            f"sweep_examples is {config['sweep_examples']}, above batch {config['batch']}: lower it"
        )
    names = list(OPTIMIZERS) if config["optimizers"] is None else list(config["optimizers"])
    for name in names:
        if name not in OPTIMIZERS:
            raise unknown_option("optimizer", name, OPTIMIZERS)
    if BASE not in names:
        raise InputError(f"optimizers is {names}: add {BASE}, which the others are compared with")
    return names
