"""What a run shows in a terminal: a bar while it works, and its closing table."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from savi.report.metrics import METRICS, SPLITS, Metric, parse

ARROWS = {"higher": "↑", "lower": "↓", None: ""}
OTHER = "Other"


def results_table(metrics: Mapping[str, float], title: str) -> Table:
    """One row per metric, by its logged name, under headings in the order of ``METRICS``.

    A row gives the label, the value with the digits that suit it, the unit, an arrow in the better
    direction and the logged name. Metrics without a description come last, under "Other", in
    alphabetical order; absent ones are left out.
    """
    # Names and titles are a user's own words, so they go in as Text: never read as markup.
    table = Table(
        title=Text(title),
        title_justify="left",
        caption="↑ higher is better, ↓ lower is better",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("Metric")
    table.add_column("Value", justify="right", no_wrap=True)
    table.add_column("Unit", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("Name", style="dim", no_wrap=True)
    for group, names in grouped(metrics):
        table.add_section()
        table.add_row(Text(group, style="bold"))
        for name in names:
            table.add_row(*_row(name, float(metrics[name])))
    return table


def plain_text(table: Table, width: int = 100) -> str:
    """The table as text without colours or escape codes, at most ``width`` characters a line."""
    file = io.StringIO()
    plain: dict[str, Any] = {"color_system": None, "force_terminal": False, "force_jupyter": False}
    Console(file=file, width=width, **plain).print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()).strip("\n") + "\n"


def described(name: str) -> Metric:
    """The metric's description; an unknown one is labelled with its name."""
    return METRICS.get(parse(name)[1], Metric(name, "", None, OTHER, ".6g"))


def full_label(name: str) -> str:
    """The label of a metric by its logged name, with the split unless that is the test split."""
    metric = described(name)
    split, _ = parse(name)
    where = SPLITS[split] if split and metric.group != OTHER else ""
    return f"{metric.label}, {where}" if where else metric.label


def grouped(names: Iterable[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """Headings and the names under each, in the order of the rows."""
    return groupby(sorted(names, key=position), key=lambda name: described(name).group)


def position(name: str) -> tuple[int, int, str]:
    """Order of the rows: quantity as in ``METRICS``, then test, validation, training."""
    split, quantity = parse(name)
    known = list(METRICS)
    place = known.index(quantity) if quantity in METRICS else len(known)
    return place, list(SPLITS).index(split) if split and quantity in METRICS else 0, name


def _row(name: str, value: float) -> tuple[Text, ...]:
    metric = described(name)
    numbers = (metric.format(value), metric.unit, ARROWS[metric.better])
    # The name of an unknown metric is its label already.
    words = (f"  {full_label(name)}", "" if metric.group == OTHER else name)
    # A narrow table cuts the label short, rather than what the metric is called in files, the
    # numbers, and rather than break a row.
    first, last = (Text(text, no_wrap=True, overflow="ellipsis") for text in words)
    return first, *map(Text, numbers), last


def duration(time: timedelta | None) -> str:
    """A duration in its two largest units; empty if it is unknown."""
    if time is None:
        return ""
    minutes, seconds = divmod(max(0, round(time.total_seconds())), 60)
    if minutes < 1:
        return f"{seconds} s"
    if minutes < 60:
        return f"{minutes} min {seconds:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


@contextmanager
def shown(what: str) -> Iterator[Callable[[float], None]]:
    """Show how far some work has come: yields a function to call with the fraction done."""
    if not sys.stdout.isatty():
        print(what, flush=True)
        yield lambda fraction: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
