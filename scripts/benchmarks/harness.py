"""What every benchmark is made of: a config with bounds, a function that measures, and its output.

A benchmark is registered with :func:`benchmark`; it writes ``NAME.csv`` (:func:`write_csv`) and
figures (:mod:`benchmarks.lines`), and returns tables (:func:`table`) with targets
(:class:`Target`).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from rich import box
from rich.table import Table
from rich.text import Text

from savi.config import store
from savi.errors import InputError
from savi.registry import Registry
from savi.settings import check_settings, setting

#: The values of a config, by key.
Config = Mapping[str, Any]
Names = Sequence[str]


class Benchmark(Protocol):
    """A function that measures, writes its files into a folder, and returns what to print."""

    def __call__(self, config: Config, folder: Path) -> list[Table]:
        """Run the benchmark.

        Raises:
            InputError: before any file is written, for whatever is wrong with the config.
        """


@dataclass
class SharedConfig:
    """What all benchmarks have."""

    seed: int = setting(0, at_least=0)
    threads: int | None = setting(None, at_least=1)  # of PyTorch; None for its own choice


#: By name; ``conf/benchmark/NAME.yaml`` holds the config. Each writes at least ``NAME.csv``.
BENCHMARKS: Registry[Benchmark] = Registry("benchmark")
#: The schema of each config.
SCHEMAS: dict[str, type] = {}
#: Those that go on in a folder which holds a run of theirs, and see for themselves whether it fits.
RESUMABLE: set[str] = set()


def benchmark(
    name: str, schema: type, *, resumable: bool = False
) -> Callable[[Benchmark], Benchmark]:
    """Decorate a function to make it the benchmark ``name``, whose config is a ``schema``."""

    def add(run: Benchmark) -> Benchmark:
        @wraps(run)
        def checked(config: Config, folder: Path) -> list[Table]:
            check_settings(schema, config)
            return run(config, folder)

        SCHEMAS[name] = schema
        if resumable:
            RESUMABLE.add(name)
        return BENCHMARKS.register(name)(checked)

    return add


def register_schemas() -> None:
    """Make ``benchmark/NAME_schema`` known to Hydra."""
    known = ConfigStore.instance()
    for name, node in SCHEMAS.items():
        known.store(group="benchmark", name=f"{name}_schema", node=node, package="_global_")


def run_config(overrides: Sequence[str]) -> dict[str, Any]:
    """The config of a run as plain values, in the middle of a benchmark's own."""
    store.register_schemas()
    own = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=store.conf_dir()):
            return store.plain(compose("config", overrides=list(overrides)))
    finally:
        if own is not None:
            GlobalHydra.instance().initialize(own)


def check_rising(key: str, numbers: Sequence[int], wanted: str, *, least: int, count: int) -> None:
    """Refuse fewer than ``count`` numbers, one below ``least``, and any that do not rise."""
    if len(numbers) < count or numbers[0] < least or list(numbers) != sorted(set(numbers)):
        raise InputError(f"{key} is {numbers}: give {wanted}")


def check_not_empty(config: Config, *keys: str, advice: str = "name at least one") -> None:
    """Refuse an empty list; None is none."""
    for key in keys:
        if config[key] is not None and not config[key]:
            raise InputError(f"{key} is []: {advice}")


@dataclass(frozen=True)
class Target:
    """What a benchmark asks of a measurement: a ratio, and the range in which it should lie.

    It may be a difference as well, with another ``unit``.
    """

    ratio: float  # what was measured, in units of ``base``
    base: str  # what it is compared with, in words
    most: float  # the upper end of the range; infinite if there is none
    least: float = 0.0  # its lower end; 0 where less is only better
    unit: str = "×"  # what stands between the number and the base

    @property
    def met(self) -> bool:
        """Whether the ratio lies in the range."""
        return self.least <= self.ratio <= self.most

    def __str__(self) -> str:
        if self.most == float("inf"):
            span = f"at least {self.least:g}"
        elif not self.least:
            span = f"at most {self.most:g}"
        else:
            span = f"{self.least:g} to {self.most:g}"
        verdict = "met" if self.met else "MISSED"
        return f"{self.ratio:.2f} {self.unit} {self.base}, {span}: {verdict}"


def table(
    title: str, caption: str, rows: Iterable[Sequence[object]], *, left: Names, right: Names = (),
    last: Names = (), wrap: Names = (), ends: Callable[[int], bool] = lambda row: False,
) -> Table:  # fmt: skip
    """A table in the style of the other commands'.

    ``left`` are headings of columns with words, ``right`` with figures, ``last`` with sentences;
    those of ``wrap`` may be broken. A cell of None is empty, and a line is drawn below the rows
    whose numbers ``ends`` picks.
    """
    looks: Any = {"box": box.SIMPLE_HEAD, "pad_edge": False, "collapse_padding": True}
    left_side: Any = {"title_justify": "left", "caption_justify": "left"}
    made = Table(title=Text(title), caption=Text(caption), **left_side, **looks)
    for heading in left:
        made.add_column(heading, no_wrap=heading not in wrap)
    for heading in right:
        made.add_column(heading, justify="right", no_wrap=heading not in wrap)
    for heading in last:
        made.add_column(heading)
    for number, row in enumerate(rows):
        cells = (Text("" if cell is None else str(cell)) for cell in row)
        made.add_row(*cells, end_section=ends(number))
    return made


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per row under the keys of the first; floats with all their digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
