"""Words, and the levels that stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import torch
from jaxtyping import Int
from torch import Tensor

#: The level of what comes after the end of a sequence.
PADDING = -1

#: The words that end a line, and that stand for all that the vocabulary lacks: levels 0 and 1.
END, UNKNOWN = "<eos>", "<unk>"


class FileWords(NamedTuple):
    """What a file of lines holds, before anything is chosen of it.

    Attributes:
        words: those of the file, which values number.
        most: levels that a vocabulary may have.
    """

    words: tuple[str, ...]
    most: int


@dataclass(frozen=True)
class Vocabulary:
    """The words that have a level of their own.

    Attributes:
        words: by level.
    """

    words: tuple[str, ...]

    @classmethod
    def fit(cls, values: Int[Tensor, "N T"], known: FileWords) -> Self:
        """The most frequent words of the training lines; of equal ones in alphabetic order."""
        counts = torch.bincount(values[values != PADDING].long(), minlength=len(known.words))
        pairs = zip(known.words, counts.tolist(), strict=True)
        seen = {word: count for word, count in pairs if count and word not in (END, UNKNOWN)}
        ranked = sorted(seen, key=lambda word: (-seen[word], word))
        return cls((END, UNKNOWN, *ranked[: known.most - 2]))

    @cached_property
    def _levels(self) -> dict[str, int]:
        return {word: level for level, word in enumerate(self.words)}

    def levels(self, words: Sequence[str]) -> Int[Tensor, " W"]:
        """The level of each word."""
        unknown = self._levels[UNKNOWN]
        return torch.tensor([self._levels.get(word, unknown) for word in words], dtype=torch.int32)

    def renumbered(self, values: Int[Tensor, "N T"], known: FileWords) -> Int[Tensor, "N T"]:
        """Lines that number the words of a file, in levels."""
        rows = self.levels(known.words)[values.clamp_min(0).long()]
        return torch.where(values == PADDING, PADDING, rows)

    def encode(self, lines: Sequence[str], length: int) -> Int[Tensor, "N T"]:
        """The levels of lines of text, cut to a length or padded to it."""
        return padded([self.levels([*line.split(), END]) for line in lines], length)

    def decode(self, rows: Int[Tensor, "N T"]) -> list[str]:
        """The lines of levels, each up to its end."""
        lines = []
        for row in rows.tolist():
            words = [self.words[level] for level in row if level >= 0]
            lines.append(" ".join(words[: words.index(END)] if END in words else words))
        return lines


def padded(rows: Sequence[Int[Tensor, " L"]], length: int) -> Int[Tensor, "N T"]:
    """Rows of any lengths side by side, cut to a length or padded to it."""
    table = torch.full((len(rows), length), PADDING, dtype=torch.int32)
    for place, row in zip(table, rows, strict=True):
        place[: len(row)] = row[:length]
    return table
