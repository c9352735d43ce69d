"""The programs ``savi-train``, ``savi-evaluate`` and ``savi-report``.

What they do is in :mod:`savi.commands`, whose imports take seconds: a signal must be answered by
then. So nothing else is imported here.
"""

from __future__ import annotations

import sys

from savi import __version__
from savi.runs.stop import STOP


def train() -> None:
    """Train a model, or several with ``-m``: ``savi-train [-m] [KEY=VALUE ...]``."""
    _call("train")


def evaluate() -> None:
    """Evaluate a checkpoint: ``savi-evaluate checkpoint=PATH [KEY=VALUE ...]``."""
    _call("evaluate")


def report() -> None:
    """One HTML page on runs: ``savi-report FOLDER ...``; or ``savi-report sync-help [FOLDER]``."""
    _call("report")


def _call(name: str) -> None:
    """Call a command; if a signal interrupts its imports, say so."""
    if "--version" in sys.argv[1:]:
        print(f"savi {__version__}")
        return
    with STOP.handled():
        try:
            from savi import commands
        except KeyboardInterrupt:
            print("savi: interrupted", file=sys.stderr)
            sys.exit(STOP.code)
        getattr(commands, name)()
