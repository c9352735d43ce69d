"""Lines of text from files of one's own: every line is an example, every word a level."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS
from savi.data.vocabulary import END, UNKNOWN, FileWords, padded
from savi.errors import InputError


@DATASETS.register("text")
def text(path: Path, *, length: int = 40, vocabulary: int = 10_000) -> RawData:
    """Read a file of lines, or a folder with ``train.txt`` and maybe ``val.txt`` and ``test.txt``.

    Words are what white space parts. A line ends with a word of its own, ``<eos>``; lines without
    a word are left out. Splits that are not there are taken from the training lines; which words
    have levels the training split then decides.

    Args:
        path: The file or the folder.
        length: The words of a line at most, the last one included: the rest is cut off.
        vocabulary: The levels at most, ``<eos>`` and ``<unk>`` included.

    Raises:
        InputError: for a file that is no text, or has none, and for sizes out of range.
    """
    for option, value, least in (("length", length, 1), ("vocabulary", vocabulary, 3)):
        if not isinstance(value, int) or value < least:
            raise InputError(
                f"data.options.{option} is {value}: set a whole number, {least} or more"
            )
    lines = {split: _lines(file) for split, file in _files(path).items()}
    every = {word for split in lines.values() for line in split for word in line}
    words = (END, UNKNOWN, *sorted(every - {END, UNKNOWN}))
    number = {word: n for n, word in enumerate(words)}

    def examples(split: list[list[str]]) -> Examples:
        rows = [torch.tensor([number[word] for word in (*line, END)]) for line in split]
        return Examples(padded(rows, length), keys=_hashes(split))

    splits = {split: examples(found) for split, found in lines.items()}
    return RawData(
        splits["train"],
        splits.get("val"),
        splits.get("test"),
        sequences=True,
        words=FileWords(words, vocabulary),
    )


def _files(path: Path) -> dict[str, Path]:
    """The files by their splits."""
    if not path.is_dir():
        return {"train": path}
    named = {split: path / f"{split}.txt" for split in ("train", "val", "test")}
    found = {split: file for split, file in named.items() if file.is_file()}
    if "train" not in found:
        raise InputError(f"data.path '{path}' has no train.txt: add it, or give a file")
    return found


def _lines(file: Path) -> list[list[str]]:
    """The words of every line that has one."""
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data.path '{file}' cannot be read as text: save it in UTF-8") from error
    if "\0" in content:
        raise InputError(f"data.path '{file}' is no text: give a file of lines in UTF-8")
    lines = [line.split() for line in content.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise InputError(f"data.path '{file}' has no words: give a file of lines")
    return lines


def _hashes(lines: Sequence[Sequence[str]]) -> Int[Tensor, " N"]:
    """64 bits of each line's words, whatever else is in the file."""
    digests = (blake2b("\n".join(line).encode(), digest_size=8).digest() for line in lines)
    return torch.tensor([int.from_bytes(one, "little", signed=True) for one in digests])
