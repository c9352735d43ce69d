"""The schema of the config group ``data``."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class DataConfig:
    """The arguments of `savi.data.TensorDataModule`, which documents them.

    A ``val_size`` of 1 or more is a count of examples, below 1 it is a fraction of them.
    """

    name: str = "digits"
    path: str | None = None
    limit: int | None = None
    batch_size: int = 128
    dequantise: bool = True
    centre: bool = True
    val_size: float = 0.1
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
