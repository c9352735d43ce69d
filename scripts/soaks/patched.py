"""A ``savi-train`` in a process of its own, with a part of it replaced."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

#: A run that does all that runs do, on a model that takes milliseconds.
SMALL = (
    "model.hidden=8", "model.depth=1", "model.latent_dim=2", "data.batch_size=16",
    "trainer.threads=1", "trainer.accelerator=cpu", "trainer.limit_val_batches=2", "logger=csv",
    "callbacks.figures=false", "evaluation.ais_examples=0", "evaluation.gap_examples=0",
    "evaluation.autoencoder_steps=0", "evaluation.importance_samples=10",
)  # fmt: skip


def train(patch: Callable[[], None], words: Sequence[str], log: Path) -> int:
    """Run the program after ``patch`` has replaced something in its process.

    Returns:
        Its exit code; ``log`` has its output.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["savi.commands", "savi.experiments.run"])
    process = context.Process(target=_train, args=(patch, words, log))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _train(patch: Callable[[], None], words: Sequence[str], log: Path) -> None:
    from savi import cli

    torch.set_num_threads(1)
    with log.open("w", buffering=1, encoding="utf-8") as file:
        sys.stdout = sys.stderr = file
        sys.argv = ["savi-train", *words]
        os.chdir(log.parent)
        patch()
        cli.train()
