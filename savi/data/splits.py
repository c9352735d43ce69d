"""The three splits: as published where they are, otherwise drawn from the training examples."""

import torch

from savi.data.randomness import generator
from savi.data.raw import Examples, RawData
from savi.errors import InputError


def train_val_test(
    raw: RawData, val_size: float, limit: int | None, seed: int
) -> dict[str, Examples]:
    """Disjoint splits ``train``, ``val`` and ``test`` that depend on the seed alone.

    A missing validation split, and a missing test split, is ``val_size`` of the training
    examples, drawn at random. Each split keeps the order of the data set it comes from.

    Args:
        raw: The data set.
        val_size: A fraction of the training examples if below 1, otherwise a count of them.
        limit: At most so many examples in each split, drawn at random; None for all.
        seed: The seed of both draws.

    Raises:
        InputError: for a ``val_size`` that is not above 0, is neither a fraction nor a count, or
            leaves nothing to train on.
    """
    splits = raw.splits
    missing = [name for name in ("val", "test") if name not in splits]
    if missing:
        size = len(raw.train)
        held_out = _count(val_size, size)
        rest = size - held_out * len(missing)
        if rest < 1:
            raise InputError(
                f"data.val_size={val_size:g} takes {held_out} of {size} examples for "
                f"{' and as many for '.join(missing)} and leaves none to train on: "
                "set a smaller one"
            )
        order = torch.randperm(size, generator=generator("split", seed))
        parts = order.split([held_out] * len(missing) + [rest])
        for name, part in zip([*missing, "train"], parts, strict=True):
            splits[name] = raw.train.take(part.sort().values)
    return {name: _limited(examples, limit, seed) for name, examples in splits.items()}


def _count(val_size: float, size: int) -> int:
    if not val_size > 0 or (val_size >= 1 and val_size % 1 != 0):
        raise InputError(
            f"data.val_size={val_size} is neither a fraction between 0 and 1 nor a whole number "
            "of examples: set one of the two"
        )
    return int(val_size) if val_size >= 1 else max(1, round(val_size * size))


def _limited(examples: Examples, limit: int | None, seed: int) -> Examples:
    if limit is None or limit >= len(examples):
        return examples
    order = torch.randperm(len(examples), generator=generator("limit", seed))
    return examples.take(order[:limit].sort().values)
