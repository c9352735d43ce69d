"""The benchmark ``inner``: which inner optimiser solves first, and what training then costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.batch import TrainedBatch
from benchmarks.harness import Config, benchmark, check_rising, write_csv
from benchmarks.images import read_images
from benchmarks.inner import report
from benchmarks.inner.curves import curves
from benchmarks.inner.solves import BASE, Trial, across_gamma, is_tuned, race, tuned
from benchmarks.inner.training import build_modules, compare_training, train_amortised
from benchmarks.progress import Progress, quiet
from benchmarks.timing import chosen_device
from benchmarks.trained import TrainedConfig, trained_batch
from savi.errors import InputError, unknown_option
from savi.inner.optimizers import OPTIMIZERS
from savi.report.figures.style import save
from savi.settings import setting


@dataclass
class InnerBenchmarkConfig(TrainedConfig):
    """How far, and how often, an inner problem is solved."""

    side: int | None = None
    train_steps: int = setting(4000, at_least=1)
    device: str = "cpu"
    optimizers: list[str] | None = None  # by name; None for all
    #: which first-order ones try on ``sweep_examples``.
    learning_rates: list[float] = field(default_factory=list)
    sweep_examples: int = setting(32, at_least=1)
    rtol: float = 1e-3  # the relative stationarity that counts as solved, within ``max_steps``
    max_steps: int = setting(500, at_least=1)
    curve_steps: list[int] = field(default_factory=list)  # the numbers K at which curves are drawn
    gammas: list[float] = field(default_factory=list)  # factors on γ
    #: configurations (see :data:`benchmarks.inner.training.PLACES`) that train with at most
    #: ``training_max_steps``.
    training: list[dict[str, Any]] = field(default_factory=list)
    training_max_steps: int = setting(30, at_least=1)
    repetitions: int = setting(5, at_least=1)


@benchmark("inner", InnerBenchmarkConfig)
def run_inner(config: Config, folder: Path) -> list[Table]:
    """Solve the inner problems of a trained VAE with every optimiser, and train with the solves.

    Writes ``inner.csv``, a line for each optimiser and what was measured of it in the parts
    ``sweep``, ``curve``, ``race`` and ``gamma``; ``inner_training.csv``, a line for each
    configuration of training; and ``inner.png``. Returns the sweep, the race, the robustness
    against γ, and the cost of training.
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
        solved = {"max_steps": max_steps, "rtol": rtol, "advance": progress.advance}
        finishes = race(best, batch, repetitions=config["repetitions"], **solved)
        progress.say("the race")
        winners = [trials[0] for trials in sweeps.values()]
        robust = across_gamma(winners, batch, config["gammas"], **solved)
        progress.say("other γ")
        train_amortised(modules, config, images, progress.advance)
        training = compare_training(
            modules, images, config["repetitions"], device, progress.advance
        )
        progress.say(f"training; threads: {torch.get_num_threads()}, device: {device}")
    write_csv(folder / "inner.csv", report.inner_rows(sweeps, drawn, finishes, robust))
    write_csv(folder / "inner_training.csv", report.training_rows(config["training"], training))
    labels = {name: _label(trials[0]) for name, trials in sweeps.items()}
    shown = {labels[name]: drawn[name] for name in report.ranked(finishes)}
    save(report.stationarity(shown, rtol), folder / "inner.png")
    return [
        report.sweep_table(sweeps, rtol),
        report.race_table(finishes, labels, refusals, rtol),
        report.gamma_table(robust, max_steps, rtol),
        report.training_table(training, rtol),
    ]


def _sweep(
    config: Config, names: list[str], batch: TrainedBatch, progress: Progress
) -> tuple[dict[str, list[Trial]], dict[str, str]]:
    """The trials of each optimiser, the best first, and why others refuse the problem."""
    few = batch.rows(config["sweep_examples"])
    sweeps: dict[str, list[Trial]] = {}
    refusals: dict[str, str] = {}
    for name in names:
        rates, max_steps, rtol = config["learning_rates"], config["max_steps"], config["rtol"]
        found = tuned(name, rates, few, max_steps, rtol, progress.advance)
        if isinstance(found, str):
            refusals[name] = found
        else:
            sweeps[name] = found
    return sweeps, refusals


def _label(trial: Trial) -> str:
    return trial.name if trial.lr is None else f"{trial.name}, lr {trial.lr:g}"


def _parts(config: Config, names: list[str], modules: int) -> int:
    """How often progress is made, at most."""
    rates, repetitions = len(config["learning_rates"]), config["repetitions"]
    sweeps = sum(rates if is_tuned(name) else 1 for name in names)
    solves = len(names) * (2 + repetitions + len(config["gammas"]))
    return sweeps + solves + modules * (2 + repetitions)


def _check(config: Config) -> list[str]:
    """Refuse what is out of range; the names of the optimisers."""
    if not 0 < config["rtol"] < 1:
        raise InputError(f"rtol is {config['rtol']}: set it between 0 and 1")
    for key in ("learning_rates", "gammas"):
        if not config[key] or not all(0 < value < float("inf") for value in config[key]):
            raise InputError(f"{key} is {config[key]}: give numbers above 0")
    steps = config["curve_steps"]
    check_rising("curve_steps", steps, "rising numbers, such as [1,2,3,5,8]", least=0, count=2)
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
