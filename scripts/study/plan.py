"""What a study runs: blocks of methods on the same data, several seeds of each, and races."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from savi.errors import unknown_option

#: Words of a command line of ``savi-train``.
Words = tuple[str, ...]


class Column(NamedTuple):
    """A column of a table: what it is called, and the final figure of a run that it shows.

    The figure is multiplied by ``factor``; ``digits`` come after the point. With a ``third``, from
    1 on, it is the mean of the run's curve in that part of its epochs.
    """

    heading: str
    metric: str
    factor: float = 1.0
    digits: int = 2
    third: int | None = None


#: What is compared at marks: the bound on −log p(x) of validation.
VAL_BOUND = Column("≤", "val/elbo", -1.0)


@dataclass(frozen=True)
class Block:
    """Methods that are compared on the same data, with everything else equal.

    Attributes:
        title: of its table.
        words: what all of its runs have in common.
        methods: what each has besides, by the name that the table gives it.
        columns: of its table; in the first one methods are compared seed for seed.
        seeds: so many of each, from 0 on.
        marks: the CPU seconds of training at which methods are compared.
        at_marks: the curve whose best value within these is compared; the higher the metric, the
            better.
        references: what needs no run, see :mod:`study.references`.
        rivals: methods or references that are compared, seed for seed, in the columns of both.
    """

    title: str
    words: Words
    methods: Mapping[str, Words]
    columns: tuple[Column, ...]
    seeds: int
    marks: tuple[float, ...] = ()
    at_marks: Column = VAL_BOUND
    references: tuple[str, ...] = ()
    rivals: tuple[tuple[str, str], ...] = ()

    def at(self, mark: float) -> str:
        """The heading of what is compared at a mark."""
        return f"{self.at_marks.heading}, {mark:g} s"


class Job(NamedTuple):
    """A run of a study."""

    block: str
    method: str
    seed: int

    def folder(self, study: Path) -> Path:
        """Where it goes."""
        return study / self.block / f"{self.method}_{self.seed}"


class Race(NamedTuple):
    """Runs that end by the clock: what the benchmark ``race`` is told, and the picture it is in."""

    picture: str
    words: Words
    seeds: int


@dataclass(frozen=True)
class Study:
    """The tables of one question, by name, and the words that all runs share."""

    words: Words
    blocks: Mapping[str, Block]
    last: Words = ()  # these overrule
    races: Mapping[str, Race] = field(default_factory=dict)

    @property
    def pictures(self) -> list[str]:
        """Of its races."""
        return list(dict.fromkeys(race.picture for race in self.races.values()))

    def jobs(self, seeds: int | None = None) -> list[Job]:
        """Seed after seed, so that a study that is cut off has whole tables of fewer."""
        counts = {
            name: block.seeds if seeds is None else min(seeds, block.seeds)
            for name, block in self.blocks.items()
        }
        return [
            Job(name, method, seed)
            for seed in range(max(counts.values(), default=0))
            for name, block in self.blocks.items()
            if seed < counts[name]
            for method in block.methods
        ]

    def part(
        self, blocks: Sequence[str] | None, methods: Sequence[str] | None, words: Sequence[str]
    ) -> Study:
        """Some of its tables and races, some lines of the tables, further words; None for all.

        Raises:
            InputError: for a name that is unknown.
        """
        known = list(
            dict.fromkeys(name for block in self.blocks.values() for name in block.methods)
        )
        for kind, asked, names in (
            ("block", blocks, [*self.blocks, *self.races]),
            ("method", methods, known),
        ):
            for name in asked or ():
                if name not in names:
                    raise unknown_option(kind, name, names)
        kept = {
            name: replace(
                block,
                methods={
                    method: own
                    for method, own in block.methods.items()
                    if methods is None or method in methods
                },
            )
            for name, block in self.blocks.items()
            if blocks is None or name in blocks
        }
        races = {
            name: race for name, race in self.races.items() if blocks is None or name in blocks
        }
        return Study(self.words, kept, (*self.last, *words), races)

    def command(self, job: Job) -> Words:
        """What ``savi-train`` is told, but for the folder."""
        block = self.blocks[job.block]
        return self.words_of(block, job.seed, *block.methods[job.method])

    def words_of(self, block: Block, seed: int, *own: str) -> Words:
        """Those of a run of a block."""
        return *self.words, *block.words, *own, f"seed={seed}", *self.last
