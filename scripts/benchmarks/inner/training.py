"""What a whole training step with a solved inner problem costs, in plain VAE steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import torch

from benchmarks.harness import Config
from benchmarks.images import Images
from benchmarks.progress import Advance
from benchmarks.timing import Timing, interleaved, synchronise
from benchmarks.trained import build_module, train, training_step
from savi.errors import InputError, unknown_option
from savi.inner.solution import Status
from savi.training.module import SemiAmortizedVAE
from savi.types import Observations

#: The keys of a configuration, and the group and key of a run's config that each sets.
PLACES = {
    "posterior": ("posterior", "name"),
    "objective": ("inner", "objective"),
    "samples": ("inner", "samples"),
    "rho": ("inner", "rho"),
    "radius": ("inner", "radius"),
    "optimizer": ("inner", "optimizer"),
    "max_steps": ("inner", "max_steps"),
    "gradient": ("gradient", "name"),
    "solver": ("gradient", "solver"),
}
#: One of a run's encoder losses, with weight 1.
ENCODER_LOSS = "encoder_loss"
PLAIN = "plain VAE"
Modules = Mapping[str, SemiAmortizedVAE]


@dataclass
class TrainingStep:
    """One step of AdamW on the outer loss, encoder and all, on the next of some batches."""

    module: SemiAmortizedVAE  # what is trained
    batches: Iterator[Observations]  # of training images
    #: the share of examples whose inner problem was solved, for each step so far.
    solved: list[float] = field(default_factory=list)
    #: the inner steps of an example, on average, likewise.
    steps: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.module.train()
        self._optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-3, fused=True)

    def __call__(self) -> None:
        """Take the step to its end."""
        x = next(self.batches)
        solution = training_step(self.module, self._optimizer, x).inference.solution
        synchronise(x.device)
        if solution is not None:
            solved = solution.status == Status.CONVERGED
            self.solved.append(float(solved.double().mean()))
            self.steps.append(float(solution.steps.double().mean()))


@dataclass(frozen=True)
class Training:
    """A configuration as measured."""

    timing: Timing  # the seconds of its steps
    solved: float  # the share of examples at the relative stationarity that was asked for
    steps: float  # the inner steps of an example, on average


def label(configuration: Mapping[str, Any]) -> str:
    """Its values in a line; numbers with their keys."""
    return ", ".join(
        str(value) if isinstance(value, str) else f"{key} {value}"
        for key, value in configuration.items()
        if value is not None
    )


def groups_of(
    configuration: Mapping[str, Any], max_steps: int, rtol: float
) -> dict[str, dict[str, Any]]:
    """The groups of a run's config that a configuration stands for."""
    groups: dict[str, dict[str, Any]] = {"inner": {"max_steps": max_steps, "rtol": rtol}}
    for key, value in configuration.items():
        if key == ENCODER_LOSS:
            groups["encoder_loss"] = {"through": 0.0, str(value): 1.0}
        elif key in PLACES:
            group, name = PLACES[key]
            groups.setdefault(group, {})[name] = value
        else:
            raise unknown_option("key of training", key, (*PLACES, ENCODER_LOSS))
    return groups


def build_modules(config: Config, images: Images) -> dict[str, SemiAmortizedVAE]:
    """The untrained modules of all configurations, by label, and the plain VAE."""
    modules = {PLAIN: build_module(config, images)}
    for configuration in config["training"]:
        groups = groups_of(configuration, config["training_max_steps"], config["rtol"])
        name = label(configuration)
        if name in modules:
            raise InputError(f"training has '{name}' twice: leave one out")
        modules[name] = build_module(config, images, **groups)
    return modules


def train_amortised(modules: Modules, config: Config, images: Images, advance: Advance) -> None:
    """Give all modules of a posterior the same weights, trained without inner steps."""
    weights: dict[str, Any] = {}
    for module in modules.values():
        posterior = module.family.name
        if posterior not in weights:
            plain = build_module(config, images, posterior={"name": posterior})
            train(plain, images, config["train_steps"])
            weights[posterior] = plain.state_dict()
            advance(f"training, {posterior}")
        module.load_state_dict(weights[posterior])


def compare_training(
    modules: Modules, images: Images, repetitions: int, device: torch.device, advance: Advance
) -> dict[str, Training]:
    """Time a training step of each module, all on the same batches; this trains it further."""
    batches = [x.to(device) for x in islice(images.training_batches(), repetitions + 1)]
    steps = {name: TrainingStep(m.to(device), cycle(batches)) for name, m in modules.items()}
    with torch.random.fork_rng():
        timings = interleaved(steps, repetitions, advance)
    return {
        name: Training(timings[name], _mean(step.solved), _mean(step.steps))
        for name, step in steps.items()
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
