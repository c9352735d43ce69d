"""The benchmark ``sequences``: what a whole training step of an LSTM costs, in plain VAE steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Config, SharedConfig, benchmark, table
from benchmarks.images import Images, read_images
from benchmarks.price import (
    BASE,
    TrainingStep,
    Variant,
    price_table,
    time_steps,
    variants_of,
)
from benchmarks.progress import quiet
from benchmarks.trained import experiment_module
from savi.settings import setting

#: Kim et al. (2018) by another backend; what reaches no encoder learns from the ELBO at λ0.
UNROLLED = ("experiment=savi_unrolled", "inner.rtol=0")
OWN = "encoder_loss=objective_at_init"

#: By the names that ``variants`` takes.
VARIANTS = {
    BASE: Variant(("experiment=vae",)),
    "savi": Variant(("experiment=savi",), 6.0),
    "stop": Variant((*UNROLLED, "gradient=stop", OWN), 6.0),
    "unrolled": Variant(UNROLLED, 6.0),
    "finite_difference": Variant(
        (*UNROLLED, "gradient=finite_difference", "inner.optimizer=momentum")
    ),
    "ift": Variant((*UNROLLED, "gradient=ift", OWN)),
}


@dataclass
class SequencesConfig(SharedConfig):
    """The oracle's sequences, the networks, the inner steps, and how often each step is timed."""

    batch: int = setting(128, at_least=1)
    latent_dim: int = setting(2, at_least=1)
    hidden: int = setting(100, at_least=1)
    max_steps: int = setting(10, at_least=1)  # of all but savi, which takes 2
    samples: int = setting(1, at_least=1)  # of their inner objective
    variants: list[str] | None = None  # by name; None for all
    train_steps: int = setting(30, at_least=1)  # of each before it is timed
    repetitions: int = setting(15, at_least=1)


@benchmark("sequences", SequencesConfig)
def run_sequences(config: Config, folder: Path) -> list[Table]:
    """Time whole training steps in CPU seconds, interleaved; set ``threads`` to 1 to compare.

    Writes ``sequences.csv``, a line for each variant and repetition. Returns the milliseconds and
    the ratios, with their targets, and counts.
    """
    names = variants_of(config, VARIANTS)
    levels = {"dequantise": False, "centre": False, "batch_size": config["batch"]}
    data = read_images("lstm_oracle", None, None, config["seed"], **levels)
    steps = {name: _step(name, config, data) for name in names}
    timings = time_steps("sequences", config, folder, steps)
    return [price_table(timings, VARIANTS), counts_table(steps)]


class Launches(TorchDispatchMode):
    """Counts the operations that compute something.

    Attributes:
        count: how many there were.
    """

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation; a view computes nothing."""
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def counts_table(steps: Mapping[str, TrainingStep]) -> Table:
    """The multiplications of one more step of each, and the operations that it launches."""
    rows: list[list[str]] = []
    base = 0.0
    for name, step in steps.items():
        with quiet(), Launches() as launches:
            step()
        with quiet(), FlopCounterMode(display=False) as flops:
            step()
        multiplications = flops.get_total_flops() / 2
        base = multiplications if name == BASE else base
        ratio = f"{multiplications / base:.2f}" if base else "-"
        rows.append([name, f"{launches.count:,}", f"{multiplications / 1e6:.1f}", ratio])
    return table(
        "What a training step is made of",
        "Of matrix products; the last column in those of a plain step.",
        rows,
        left=["Variant"],
        right=["Operations", "Million multiplications", "Ratio"],
    )


def _step(name: str, config: Config, data: Images) -> TrainingStep:
    own = VARIANTS[name].overrides
    overrides = [
        "model=lstm",
        *own,
        f"model.latent_dim={config['latent_dim']}",
        f"model.hidden={config['hidden']}",
    ]
    if UNROLLED[0] in own:
        overrides += [
            f"inner.max_steps={config['max_steps']}",
            f"inner.samples={config['samples']}",
        ]
    module = experiment_module(overrides, data, config["seed"])
    return TrainingStep(module, module.configure_optimizers(), data.training_batches())
