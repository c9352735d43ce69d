"""The CPU seconds of a training step of each method of a block, measured in turns."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from benchmarks.harness import run_config
from benchmarks.images import Images
from benchmarks.price import TrainingStep
from benchmarks.timing import interleaved

from savi.console import say
from savi.experiments.build import build
from savi.runs.whole import write_text
from study.plan import Job, Study

#: Steps of each method before it is timed, and rounds in which all are.
BEFORE, ROUNDS = 5, 15


def prices(study: Study, block: str, folder: Path) -> dict[str, float]:
    """By method, from the file of an earlier start if it has them all.

    On one thread, each step with its backward and the optimiser's, without what a Trainer adds.
    Methods of which callbacks do a part of the work, by no fixed plan, are left out.
    """
    file = folder / f"seconds_{block}.json"
    methods = [
        name
        for name, words in study.blocks[block].methods.items()
        if not any(word.startswith("callbacks.") for word in words)
    ]
    if file.exists():
        known = json.loads(file.read_text())
        if list(known) == methods:
            return known
    say(f"{block}: the seconds of a training step")
    found = _measured(study, block, methods)
    write_text(file, json.dumps(found, indent=1))
    return found


def _measured(study: Study, block: str, methods: Sequence[str]) -> dict[str, float]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        steps = {}
        for method in methods:
            # No Trainer is there that knows how long the training is.
            words = [*study.command(Job(block, method, 0)), "optimizer.schedule=constant"]
            config = run_config([*words, "trainer.threads=1"])
            data, module = build(config)
            module.train()
            batches = Images(data, None).training_batches()
            step = steps[method] = TrainingStep(module, module.configure_optimizers(), batches)
            for _ in range(BEFORE):
                step()
        timings = interleaved(steps, ROUNDS, lambda name: None, clock=time.process_time)
    finally:
        torch.set_num_threads(threads)
    return {name: timing.median for name, timing in timings.items()}
