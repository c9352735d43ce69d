"""The benchmark ``price``: what a whole training step costs, in steps of a plain VAE."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from rich.table import Table
from torch.optim import Optimizer

from benchmarks.harness import Config, SharedConfig, Target, benchmark, table, write_csv
from benchmarks.images import Images, read_images
from benchmarks.progress import Progress, quiet
from benchmarks.timing import Timing, interleaved
from benchmarks.trained import experiment_module, training_step
from savi.errors import InputError, unknown_option
from savi.settings import setting
from savi.training.module import SemiAmortizedVAE
from savi.types import Observations

BASE = "vae"
CONSTANT = "posterior.covariance_gradient=stop"
AMORTISED = ("experiment=laplace_ift", "inner.max_steps=0", "gradient=unrolled",
             "encoder_loss=through")  # fmt: skip
SOLVE = ("inner.optimizer=chord", "inner.max_steps=8", "inner.rtol=1e-2",
         "encoder_loss=objective_at_init")  # fmt: skip
LAPLACE = ("experiment=laplace_ift", *SOLVE)
PROXIMAL = ("experiment=savi_ift", "inner.max_steps=2",
            "encoder_loss.elbo_at_init=0", "encoder_loss.objective_at_init=1")  # fmt: skip


class Variant(NamedTuple):
    """A method by its overrides, and how many steps of a plain VAE one of its may cost."""

    overrides: tuple[str, ...]
    most: float | None = None


#: By the names that ``variants`` takes.
VARIANTS = {
    BASE: Variant(("experiment=vae",)),
    "savi": Variant(("experiment=savi",), 2.0),
    "savi_one_step": Variant(("experiment=savi", "inner.max_steps=1", "inner.adapt_lr=false"), 1.6),
    "laplace_amortised": Variant(AMORTISED, 8.5),
    "laplace_amortised_constant": Variant((*AMORTISED, CONSTANT), 3.8),
    "laplace_ift": Variant(LAPLACE, 13.0),
    "laplace_ift_constant": Variant((*LAPLACE, CONSTANT), 8.0),
    "laplace_stop": Variant((*LAPLACE, "gradient=stop"), 11.0),
    "laplace_stop_constant": Variant((*LAPLACE, "gradient=stop", CONSTANT), 6.0),
    "map_stop": Variant(
        ("experiment=laplace_ift", "posterior=point_mass", "gradient=stop", *SOLVE), 4.0
    ),
    "proximal": Variant(PROXIMAL, 8.0),
    "savi_ift": Variant(("experiment=savi_ift",)),
    "laplace_ift_default": Variant(("experiment=laplace_ift",)),
    "vlae": Variant(("experiment=vlae",)),
}


@dataclass
class PriceConfig(SharedConfig):
    """The data, the networks, and how often each step is timed, after how much training."""

    dataset: str = "fashion_mnist"
    data_path: str | None = None  # a folder of its files, to do without a download
    batch: int = setting(128, at_least=1)
    latent_dim: int = setting(16, at_least=1)
    hidden: int = setting(500, at_least=1)
    variants: list[str] | None = None  # by name; None for all
    train_steps: int = setting(30, at_least=1)  # of each before it is timed
    repetitions: int = setting(25, at_least=1)


@dataclass
class TrainingStep:
    """A step that a Trainer would take, without its hooks and logs."""

    module: SemiAmortizedVAE
    optimizer: Optimizer
    batches: Iterator[Observations]

    def __call__(self) -> None:
        """Take it."""
        training_step(self.module, self.optimizer, next(self.batches), measured=False)


@benchmark("price", PriceConfig)
def run_price(config: Config, folder: Path) -> list[Table]:
    """Time whole training steps in CPU seconds, interleaved; set ``threads`` to 1 to compare.

    Writes ``price.csv``, a line for each variant and repetition. Returns the milliseconds and the
    ratios, with their targets.
    """
    names = variants_of(config, VARIANTS)
    images = read_images(
        config["dataset"], config["data_path"], None, config["seed"], batch_size=config["batch"]
    )
    steps = {name: _step(VARIANTS[name], config, images) for name in names}
    return [price_table(time_steps("price", config, folder, steps), VARIANTS)]


def variants_of(config: Config, known: Mapping[str, Variant]) -> list[str]:
    """The names of ``variants``, or all.

    Raises:
        InputError: for unknown ones, and where the plain VAE is not among them.
    """
    names = config["variants"] or list(known)
    for name in names:
        if name not in known:
            raise unknown_option("variant", name, known)
    if BASE not in names:
        raise InputError(f"variants is {names}: add {BASE}, which the others are compared with")
    return names


def time_steps(
    benchmark: str, config: Config, folder: Path, steps: Mapping[str, TrainingStep]
) -> dict[str, Timing]:
    """Train each for ``train_steps``, then time them in turn; writes the CSV file."""
    count, repetitions = config["train_steps"], config["repetitions"]
    with Progress((1 + repetitions + 1) * len(steps)) as progress, quiet():
        for name, step in steps.items():
            for _ in range(count):
                step()
            progress.advance(f"{name}: {count} steps of training")
        timings = interleaved(steps, repetitions, progress.advance, clock=time.process_time)
        progress.say(f"threads: {torch.get_num_threads()}")
    rows = [
        {"variant": name, "repetition": repetition, "cpu_seconds": seconds}
        for name, timing in timings.items()
        for repetition, seconds in enumerate(timing.seconds)
    ]
    write_csv(folder / f"{benchmark}.csv", rows)
    return timings


def _step(variant: Variant, config: Config, images: Images) -> TrainingStep:
    overrides = [
        *variant.overrides,
        f"model.latent_dim={config['latent_dim']}",
        f"model.hidden={config['hidden']}",
    ]
    module = experiment_module(overrides, images, config["seed"])
    return TrainingStep(module, module.configure_optimizers(), images.training_batches())


def price_table(timings: dict[str, Timing], variants: Mapping[str, Variant]) -> Table:
    """Milliseconds of each variant, and how many plain steps they are."""
    rows = []
    for name, timing in timings.items():
        ratio, most = timing.over(timings[BASE]), variants[name].most
        target = None if most is None else Target(ratio, "a plain step", most)
        price = target or f"{ratio:.2f} × a plain step"
        rows.append([name, f"{1e3 * timing.median:.1f}", price])
    return table(
        "The price of a training step",
        "CPU seconds of whole steps: forward, backward, optimiser. Medians; ratios are medians of "
        "the ratios within a round.",
        rows,
        left=["Variant"],
        right=["Milliseconds"],
        last=["Price, target"],
    )
