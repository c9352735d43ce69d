"""The same processors and the same number of threads for every system."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from savi.errors import InputError, require_at_least

#: Where a process finds ``benchmarks``, and savi in a checkout that is not installed.
SCRIPTS = os.pathsep.join(str(Path(__file__).resolve().parents[n]) for n in (2, 3))


def chosen_threads(threads: int | None) -> int:
    """How many threads each system has; None for as many as PyTorch takes."""
    threads = min(torch.get_num_threads(), len(processors())) if threads is None else threads
    require_at_least("threads", threads, 1)
    if threads > len(processors()):
        raise InputError(
            f"threads is {threads}, and this process may use {len(processors())} processors: set "
            "it to at most that"
        )
    return threads


def processors() -> list[int]:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def environment(threads: int) -> dict[str, str]:
    """The variables of a worker: what libraries read when they are imported."""
    count = str(threads)
    path = os.pathsep.join([SCRIPTS, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "NPROC": count,  # the pool of XLA
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={count}",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }


def confine(threads: int) -> None:
    """Keep this process, and all threads that it will start, to the first processors."""
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors()[:threads])
