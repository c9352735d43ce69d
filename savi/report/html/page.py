"""From folders to one file on disk without a link to the outside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from savi.errors import InputError
from savi.report.folders import find_runs
from savi.report.html.comparison_page import comparison_context
from savi.report.html.run_page import run_context, run_title
from savi.report.html.words import figure, moment
from savi.report.settings import show
from savi.report.table import described, duration, full_label
from savi.runs.whole import write_text

STYLES = ("theme.css", "page.css", "tables.css", "plots.css")
SCRIPTS = ("theme.js", "plots.js", "overlays.js", "tables.js", "page.js")
LIVE = "live.js"


HARMLESS = ("none", "i")
"""Kinds of collapse that lose nothing: none, and the pruning of superfluous dimensions."""


VERSION, PLOTLY = "version", "plotly.js"
"""What a page that is served asks its server for: the version of the files, and plotly.js."""


def render(
    template: str, title: str, context: Mapping[str, Any], version: str | None = None
) -> str:
    """A whole page, of whose context ``plots`` and ``overlays`` go to the scripts.

    One that is served, which has a ``version``, asks for the next one and for plotly.js.
    """
    embedded = {"plots": context["plots"], "overlays": context.get("overlays", {})}
    page = _environment().get_template(template)
    scripts = SCRIPTS if version is None else (*SCRIPTS, LIVE)
    return page.render(
        context,
        title=title,
        styles=Markup("\n".join(map(_static, STYLES))),
        scripts=Markup("\n".join(map(_static, scripts))),
        plotly=Markup(get_plotlyjs()) if version is None else "",
        version=version,
        embedded=_json(embedded),
        harmless=HARMLESS,
    )


@cache
def _environment() -> Environment:
    """Templates whose every value is escaped, and in which a misspelt name is an error."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.loader = PackageLoader("savi.report.html")
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {"shown": show, "label": full_label, "metric": described}
    environment.filters |= {"figure": figure, "moment": moment, "duration": duration}
    return environment


def _static(name: str) -> str:
    return (files("savi.report.html") / "static" / name).read_text(encoding="utf-8")


def _json(content: Mapping[str, Any]) -> Markup:
    """JSON that no text in it can end: ``<`` stands in it as an escape."""
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))


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
    write_text(output, report_page(paths, title))
    return output


def report_page(paths: Sequence[Path], title: str | None, version: str | None = None) -> str:
    """The page itself; see :func:`render` for one that is served.

    Raises:
        InputError: if a path is no folder or holds no run.
    """
    found = find_runs(paths)
    if len(found.runs) == 1 and found.runs[0].state != "missing" and not found.unstarted:
        run = found.runs[0]
        return render("run.html", title or run_title(run), run_context(run), version)
    names = list(dict.fromkeys(path.resolve().name for path in paths))
    heading = title or (names[0] if len(names) == 1 else f"{len(found.runs)} runs")
    return render("comparison.html", heading, comparison_context(found), version)


def waiting_page(reason: str, version: str) -> str:
    """A page that is served while there is nothing to show yet."""
    context = {"plots": {}, "sections": {}, "reason": reason}
    return render("waiting.html", "Waiting for a run", context, version)
