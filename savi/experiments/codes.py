"""Codes of a trained model's examples: the data of a second VAE (Dai and Wipf 2019)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from savi.data import TensorDataModule
from savi.runs.whole import whole
from savi.training.module import SemiAmortizedVAE
from savi.types import Codes, Observations
from savi.vae.distributions import independent_noise

#: The first stream of their noise.
STREAM = 910_000


@torch.no_grad()
def sampled_codes(module: SemiAmortizedVAE, batches: Iterable[Observations]) -> Codes:
    """One z ~ q(z|x) for each example, a sample of the aggregated posterior; on the CPU.

    q is what it is in a test, refined or not. The same call gives the same codes.
    """
    codes, steps = [], module.inference.test_max_steps
    for part, x in enumerate(batches):
        generator = module.evaluation_noise(STREAM + part)
        found = module.inference(module.vae, x, max_steps=steps, generator=generator)
        q = module.family.distribution(found.value, module.vae.given(x))
        codes.append(q.rsample(independent_noise(1, q.mean, generator))[0].cpu())
    return torch.cat(codes)


def write_codes(path: Path, module: SemiAmortizedVAE, data: TensorDataModule) -> None:
    """Codes of every split as an ``.npz`` file, which ``data=arrays`` reads."""
    # Any: mypy takes a name that it does not know for that of an option.
    arrays: dict[str, Any] = {
        split: sampled_codes(
            module, (x.to(module.device) for x in data.rows(split).split(data.batch_size))
        ).numpy()
        for split in ("train", "val", "test")
    }
    with whole(path) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)
