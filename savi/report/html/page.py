"""Templates, styles and scripts put together into one file without a link to the outside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from savi.report.settings import show

STYLES = ("theme.css", "page.css", "tables.css", "plots.css")
SCRIPTS = ("theme.js", "plots.js", "overlays.js", "tables.js", "page.js")


HARMLESS = ("none", "i")
"""Kinds of collapse that lose nothing: none, and the pruning of superfluous dimensions."""


def render(template: str, title: str, context: Mapping[str, Any]) -> str:
    """A whole page.

    Args:
        template: file name in ``templates``.
        title: title of the page.
        context: what the template shows; ``plots`` and ``overlays`` go to the scripts.
    """
    embedded = {"plots": context["plots"], "overlays": context.get("overlays", {})}
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            styles=Markup("\n".join(map(_static, STYLES))),
            scripts=Markup("\n".join(map(_static, SCRIPTS))),
            plotly=Markup(get_plotlyjs()),
            embedded=_json(embedded),
            harmless=HARMLESS,
            **{key: value for key, value in context.items() if key != "overlays"},
        )
    )


@cache
def _environment() -> Environment:
    """Templates whose every value is escaped, and in which a misspelt name is an error."""
    environment = Environment(
        loader=PackageLoader("savi.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = show
    return environment


def _static(name: str) -> str:
    return (files("savi.report.html") / "static" / name).read_text(encoding="utf-8")


def _json(content: Mapping[str, Any]) -> Markup:
    """JSON that no text in it can end: ``<`` stands in it as an escape."""
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))
