"""Which split an example belongs to, by its content alone.

Every example has a place in [0, 1), a hash of its values that is keyed by the seed, and every
split a range of places. An example therefore stays in its split when others are added to the file
or the file is put in another order, and equal examples are in the same split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from savi.data.randomness import seed_of


def row_hashes(values: Shaped[Tensor, "N ..."], precise: bool = False) -> Int[Tensor, " N"]:
    """64 bits of each example's values, of floating-point ones as float32 holds them.

    A file keeps its hashes when it is saved in another precision, unless they are ``precise``:
    then they are those of float64.
    """
    rows = values.flatten(1)
    if rows.is_floating_point():
        # A negative zero becomes a positive one.
        rows = (rows.double() if precise else rows.float()) + 0.0
    digests = b"".join(blake2b(row, digest_size=8).digest() for row in rows.contiguous().numpy())
    return torch.from_numpy(np.frombuffer(digests, dtype="<i8").astype(np.int64))


def float32_merges(values: Shaped[Tensor, "N ..."]) -> bool:
    """Whether examples differ only in digits that float32 lacks, as beside a large offset."""
    if values.dtype != torch.float64:
        return False
    coarse, fine = row_hashes(values), row_hashes(values, precise=True)
    return len(coarse.unique()) < len(fine.unique())


def fingerprint(hashes: Mapping[str, Int[Tensor, " N"]]) -> str:
    """One word for the examples of all splits, in whatever order each split holds them."""
    digest = blake2b(digest_size=16)
    for name in sorted(hashes):
        digest.update(name.encode() + np.sort(hashes[name].numpy()).astype("<i8").tobytes())
    return digest.hexdigest()


def places(hashes: Int[Tensor, " N"], purpose: str, seed: int) -> Float[Tensor, " N"]:
    """Numbers in [0, 1) as if drawn at random, determined by hash, purpose and seed."""
    mixed = hashes.numpy().view(np.uint64) ^ np.uint64(seed_of(purpose, seed))
    # The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return torch.from_numpy((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)


@dataclass(frozen=True)
class Partition:
    """The ranges of places of the splits that are taken from the training examples.

    Attributes:
        seed: the key of the places.
        ends: the place below which each held-out split ends, one after the other; the rest is to
            train on.
        together: whether equal examples share a split: as long as enough of them differ.
    """

    seed: int
    ends: dict[str, float]
    together: bool = True

    @classmethod
    def choose(
        cls, hashes: Int[Tensor, " N"], names: Sequence[str], held_out: int, seed: int
    ) -> Self:
        """Give each of the held-out splits so many examples.

        It gets a few more where equal ones would be parted, unless fewer differ than there are
        splits. There must be more examples than are held out.
        """
        if not names:
            return cls(seed, {})
        together = len(hashes.unique()) > len(names)
        found, counts = cls(seed, {}, together)._places(hashes).unique(return_counts=True)
        total, start, ends = counts.cumsum(0), 0, {}
        for number, name in enumerate(names):
            before = int(total[start - 1]) if start else 0
            enough = int(torch.searchsorted(total, before + held_out)) + 1
            # Of those that differ, one at least is left for each of the splits that follow.
            start = max(start + 1, min(enough, len(found) - (len(names) - number)))
            ends[name] = float(found[start])
        return cls(seed, ends, together)

    def members(
        self, hashes: Int[Tensor, " N"], names: Sequence[str]
    ) -> dict[str, Int[Tensor, " M"]]:
        """The positions of the examples in the splits of these names; ``train`` is the rest."""
        place, start, chosen = self._places(hashes), 0.0, {}
        rest = torch.ones_like(place, dtype=torch.bool)
        for name, end in self.ends.items():
            if name in names:
                inside = (place >= start) & (place < end)
                rest &= ~inside
                chosen[name] = inside.nonzero().squeeze(1)
            start = end
        return chosen | {"train": rest.nonzero().squeeze(1)}

    def _places(self, hashes: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        if not self.together:
            hashes = hashes ^ places(occurrences(hashes), "equal", 0).view(torch.int64)
        return places(hashes, "split", self.seed)


def occurrences(values: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    """How many equal values precede each."""
    order = values.argsort(stable=True)
    _, counts = values.unique(return_counts=True)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    numbers = torch.empty_like(values)
    numbers[order] = torch.arange(len(values)) - starts
    return numbers
