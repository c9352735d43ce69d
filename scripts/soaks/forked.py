"""What a forked process does to be a program of its own."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def execute(code: str, words: Sequence[str], outputs: tuple[Path, Path]) -> None:
    """Run code as ``python -c`` would, on one thread, with both streams in files.

    Args:
        code: of the program.
        words: its ``sys.argv``.
        outputs: the files of the standard output and of the errors.
    """
    import torch

    for stream, file in enumerate(outputs, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    # As Python has them: what cannot be encoded is an error, but for one that is being told.
    sys.stdout, sys.stderr = (
        os.fdopen(stream, "w", 1, "utf-8", errors, closefd=False)
        for stream, errors in enumerate(("strict", "backslashreplace"), start=1)
    )
    sys.argv = list(words)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    try:
        exec(code, {"__name__": "__main__"})
    finally:
        # Processes of multiprocessing leave these out.
        atexit._run_exitfuncs()
