"""The benchmark ``step``: the seconds of an outer step, and what they are spent on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.decoder import decoder_batch
from benchmarks.files import write_csv
from benchmarks.progress import Progress
from benchmarks.quiet import quiet
from benchmarks.registry import BENCHMARKS
from benchmarks.step.tables import backend_table, certificate_table, compile_table
from benchmarks.step.timing import Timing, empty_compiler_cache, interleaved
from benchmarks.step.variants import Variant, variants
from savi.errors import InputError, require_at_least


@BENCHMARKS.register("step")
def run_step(config: Mapping[str, Any], folder: Path) -> list[Table]:
    """Time an outer step, forward and backward, for every backend; interleaved, and medians.

    Writes ``step.csv``, a line for each variant and repetition; repetition 0 is the first call,
    which compiles what is to be compiled.

    Args:
        config: see :func:`benchmarks.decoder.decoder_batch`; ``steps``, the numbers K of inner
            descent with ``lr`` and ``momentum``; ``newton_steps`` of Levenberg–Marquardt on the
            proximal objective with ``rho``; whether to ``compile``; ``repetitions``.
        folder: where the file goes.

    Returns:
        The times of the backends, the cost of the certificate, and the gain of ``torch.compile``.

    Raises:
        InputError: for values out of range.
    """
    _check(config)
    batch = decoder_batch(config)
    calls, repetitions = variants(batch, config), config["repetitions"]
    with Progress((1 + repetitions) * len(calls)) as progress:

        def advance(variant: Variant) -> None:
            progress.advance(f"{variant.part}: {variant.name}, K = {variant.steps}")

        with quiet(), empty_compiler_cache():
            timings = interleaved(calls, repetitions, advance)
        threads = torch.get_num_threads()
        progress.say(f"{len(calls)} variants, {repetitions} repetitions, threads: {threads}")
    write_csv(folder / "step.csv", _rows(timings))
    tables = [backend_table(timings), certificate_table(timings)]
    return [*tables, compile_table(timings)] if config["compile"] else tables


def _check(config: Mapping[str, Any]) -> None:
    steps = config["steps"]
    if not steps or steps[0] < 1 or steps != sorted(set(steps)):
        raise InputError(f"steps is {steps}: give rising numbers from 1 on, such as [5,20]")
    for key in ("newton_steps", "repetitions"):
        require_at_least(key, config[key], 1)
    if not 0 < config["rho"] < float("inf"):
        raise InputError(f"rho is {config['rho']}: set it above 0")


def _rows(timings: Mapping[Variant, Timing]) -> list[dict[str, Any]]:
    return [
        variant._asdict() | {"repetition": repetition, "seconds": seconds}
        for variant, timing in timings.items()
        for repetition, seconds in enumerate([timing.first, *timing.seconds])
    ]
