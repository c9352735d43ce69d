"""The typed schemas of the benchmarks, with the values that ``conf/benchmark/`` does not set."""

from __future__ import annotations

from dataclasses import dataclass, field


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
