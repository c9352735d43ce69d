"""The benchmark ``sequences``: what a whole training step of an LSTM costs, in plain VAE steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.harness import Config, SharedConfig, benchmark
from benchmarks.images import Images, read_images
from benchmarks.price import (
    BASE,
    TrainingStep,
    Variant,
    price_table,
    time_steps,
    variants_of,
)
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
    the ratios, with their targets.
    """
    names = variants_of(config, VARIANTS)
    levels = {"dequantise": False, "centre": False, "batch_size": config["batch"]}
    data = read_images("lstm_oracle", None, None, config["seed"], **levels)
    steps = {name: _step(name, config, data) for name in names}
    return [price_table(time_steps("sequences", config, folder, steps), VARIANTS)]


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
