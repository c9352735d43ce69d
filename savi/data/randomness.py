"""Random streams that depend on their purpose and key alone."""

import numpy as np
import torch


def seed_of(purpose: str, *key: int) -> int:
    """64 bits that depend on the purpose (``"order"``) and the key (seed, epoch) alone.

    The key is hashed by NumPy's ``SeedSequence``, so that neighbouring keys, such as two epochs,
    give unrelated ones.
    """
    words = [int.from_bytes(purpose.encode()), *key]
    (seed,) = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return int(seed)


def generator(purpose: str, *key: int) -> torch.Generator:
    """A CPU generator that starts at `seed_of`; the global random state is left alone."""
    return torch.Generator().manual_seed(seed_of(purpose, *key))
