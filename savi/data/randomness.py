"""One independent stream of random numbers for each purpose."""

import numpy as np
import torch


def generator(purpose: str, *key: int) -> torch.Generator:
    """A CPU generator that depends on the purpose and the key alone.

    The key is hashed by NumPy's ``SeedSequence``, so that neighbouring keys, such as two epochs,
    give unrelated streams, and the global random state is neither read nor moved.

    Args:
        purpose: What the numbers are for, e.g. ``"order"``.
        key: Integers not below 0, e.g. the seed and the epoch.
    """
    words = [int.from_bytes(purpose.encode()), *key]
    (seed,) = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed))
