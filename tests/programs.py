"""Programs in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path


def finished(code: str, *arguments: str, cwd: Path) -> tuple[int, str]:
    """The exit code of a program, and its output with its errors."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
