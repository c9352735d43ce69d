"""The schema of the config group ``data``."""

from dataclasses import dataclass, field
from typing import Any

from savi.data.raw import LAYOUTS
from savi.data.units import BINARISATIONS, SCALES
from savi.settings import setting


@dataclass
class DataConfig:
    """The arguments of `savi.data.TensorDataModule`, which documents them.

    A ``val_size`` of 1 or more is a count of examples, below 1 it is a fraction of them.
    """

    name: str = "digits"
    path: str | None = None
    limit: int | None = setting(None, at_least=1)
    batch_size: int = setting(128, at_least=1)
    dequantise: bool = True
    centre: bool = True
    binarise: str = setting("none", one_of=BINARISATIONS)
    scale: str = setting("none", one_of=SCALES)
    layout: str = setting("channels_first", one_of=LAYOUTS)
    val_size: float = 0.1
    seed: int = setting(0, at_least=0)
    options: dict[str, Any] = field(default_factory=dict)
