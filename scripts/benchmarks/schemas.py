"""The typed schemas of the benchmarks, with the values that ``conf/benchmark/`` does not set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class SafetyConfig:
    """The benchmark ``safety``: which problems go to which systems; None means all."""

    seed: int = 0
    threads: int | None = None
    tolerance: float = 1e-2
    families: list[str] | None = None
    systems: list[str] | None = None
    per_family: int | None = None


@dataclass
class OrderConfig:
    """The benchmark ``order``: its decoder, and how well the inner problem is solved."""

    seed: int = 0
    threads: int | None = None
    backends: list[str] = field(default_factory=list)
    examples: int = 8
    latent_dim: int = 2
    data_dim: int = 8
    hidden: int = 16
    depth: int = 2
    activation: str = "tanh"
    gamma: float = 0.1
    samples: int = 4
    levels: list[float] = field(default_factory=list)
    points: int = 11
    window: list[float] = field(default_factory=list)
    max_steps: int = 20_000


@dataclass
class MemoryConfig:
    """The benchmark ``memory``: its decoder, and the numbers of inner steps."""

    seed: int = 0
    threads: int | None = None
    batch: int = 8
    latent_dim: int = 2
    hidden: int = 64
    depth: int = 2
    activation: str = "softplus"
    data_dim: int = 128
    gamma: float = 0.1
    samples: int = 2
    steps: list[int] = field(default_factory=list)
    lr: float = 1e-3
    momentum: float = 0.9


@dataclass
class UnrollingConfig:
    """The benchmark ``unrolling``: its two problems, and the numbers of inner steps."""

    seed: int = 0
    threads: int | None = None
    rows: int = 64
    items: int = 100
    spread: float = 0.8
    batch: int = 16
    latent_dim: int = 4
    hidden: int = 64
    depth: int = 2
    activation: str = "softplus"
    data_dim: int = 128
    gamma: float = 0.1
    samples: int = 2
    steps: list[int] = field(default_factory=list)
    relative_lr: float = 1.0
    momentum: float = 0.9
    repetitions: int = 2


@dataclass
class QPConfig:
    """The benchmark ``qp``: the sizes of its quadratic programs, and how often each is timed."""

    seed: int = 0
    threads: int | None = None
    batch: int = 128
    sizes: list[int] = field(default_factory=list)
    tolerance: float = 1e-10
    repetitions: int = 5


@dataclass
class StepConfig:
    """The benchmark ``step``: its decoder, the inner descents, and how often each is timed."""

    seed: int = 0
    threads: int | None = None
    batch: int = 128
    latent_dim: int = 16
    hidden: int = 500
    depth: int = 2
    activation: str = "softplus"
    data_dim: int = 784
    gamma: float = 0.1
    samples: int = 2
    steps: list[int] = field(default_factory=list)
    lr: float = 0.2
    momentum: float = 0.5
    newton_steps: int = 5
    rho: float = 1.0
    compile: bool = True
    repetitions: int = 15


@dataclass
class ReplicasConfig:
    """The benchmark ``replicas``: which runs are trained together, and how many of them."""

    seed: int = 0
    threads: int | None = None
    experiments: list[str] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)


@dataclass
class TrainedConfig:
    """What the benchmarks on a trained VAE share (see ``benchmarks.trained``)."""

    seed: int = 0
    threads: int | None = None
    dataset: str = "fashion_mnist"
    data_path: str | None = None
    batch: int = 128
    latent_dim: int = 16
    hidden: int = 500
    depth: int = 2
    activation: str = "softplus"
    train_steps: int = 2000
    checkpoint: str | None = None


@dataclass
class CostConfig(TrainedConfig):
    """The benchmark ``cost``: against what, and how often, an outer step is measured."""

    side: int | None = None
    batch: int = 128
    train_steps: int = 1000
    device: str = "cpu"
    steps: list[int] = field(default_factory=list)
    long_steps: list[int] = field(default_factory=list)
    relative_lr: float = 2.0
    momentum: float = 0.9
    reference_examples: int = 16
    beside: str = "newton"
    batches: list[int] = field(default_factory=list)
    latent_dims: list[int] = field(default_factory=list)
    growth_optimizers: list[str] = field(default_factory=list)
    growth_steps: int = 5
    growth_train_steps: int = 300
    repetitions: int = 3


@dataclass
class InnerBenchmarkConfig(TrainedConfig):
    """The benchmark ``inner``: how far, and how often, an inner problem is solved."""

    side: int | None = None
    train_steps: int = 4000
    device: str = "cpu"
    optimizers: list[str] | None = None
    learning_rates: list[float] = field(default_factory=list)
    sweep_examples: int = 32
    rtol: float = 1e-3
    max_steps: int = 500
    curve_steps: list[int] = field(default_factory=list)
    gammas: list[float] = field(default_factory=list)
    training: list[dict[str, Any]] = field(default_factory=list)
    training_max_steps: int = 30
    repetitions: int = 5


@dataclass
class PeersConfig(TrainedConfig):
    """The benchmark ``peers``: its problems, what the systems are told, and how they are timed."""

    train_steps: int = 3000
    sides: list[int | None] = field(default_factory=list)
    converged_sides: list[int | None] = field(default_factory=list)
    systems: list[str] | None = None
    steps: int = 80
    relative_lr: float = 1.0
    rtol: float = 1e-3
    fraction: float = 0.95
    max_steps: int = 500
    tolerance: float = 1e-2
    rounds: int = 9
    turn: float = 0.5
    timeout: float = 600.0


#: The schema of each file of ``conf/benchmark/``.
SCHEMAS: dict[str, type] = {
    "cost": CostConfig,
    "inner": InnerBenchmarkConfig,
    "memory": MemoryConfig,
    "order": OrderConfig,
    "peers": PeersConfig,
    "qp": QPConfig,
    "replicas": ReplicasConfig,
    "safety": SafetyConfig,
    "step": StepConfig,
    "unrolling": UnrollingConfig,
}


def register_schemas() -> None:
    """Make ``benchmark/NAME_schema`` known to Hydra."""
    store = ConfigStore.instance()
    for name, node in SCHEMAS.items():
        store.store(group="benchmark", name=f"{name}_schema", node=node, package="_global_")
