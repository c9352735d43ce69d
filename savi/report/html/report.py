"""From folders to a page on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from savi.errors import InputError
from savi.report.folders import Found, find_runs
from savi.report.html.comparison_page import comparison_context
from savi.report.html.page import render
from savi.report.html.run_page import run_context, run_title


def write_report(paths: Sequence[Path], output: Path, title: str | None = None) -> Path:
    """Write one self-contained HTML page on the runs in or below some folders.

    A single run has a page on everything it left; several are compared. The page holds all its
    styles, scripts and pictures, so it opens from disk without a network, and the same runs give
    the same bytes.

    Args:
        paths: run folders, sweep folders, or folders above them.
        output: the file to write; an older one is replaced.
        title: heading of the page; by default the run's name or the folders'.

    Returns:
        The path written.

    Raises:
        InputError: if a path is no folder or holds no run, or if the output cannot be written.
    """
    if output.is_dir() or not output.parent.is_dir():
        raise InputError(f"output '{output}' cannot be written: give a file in an existing folder")
    found = find_runs(paths)
    output.write_text(_page(found, title, paths), encoding="utf-8")
    return output


def _page(found: Found, title: str | None, paths: Sequence[Path]) -> str:
    if len(found.runs) == 1 and found.runs[0].state != "missing" and not found.unstarted:
        run = found.runs[0]
        return render("run.html", title or run_title(run), run_context(run))
    names = list(dict.fromkeys(path.resolve().name for path in paths))
    heading = title or (names[0] if len(names) == 1 else f"{len(found.runs)} runs")
    return render("comparison.html", heading, comparison_context(found))
