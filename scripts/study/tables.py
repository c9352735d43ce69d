"""The tables of a study: a line for each method, as means over seeds with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from savi.report.settings import Summary, summarise
from study.plan import Block, Column
from study.values import BASE, EPOCHS, PRICE, Value

#: The column of how far the first one lies from the VAE's, seed for seed.
DIFFERENCE = f"less `{BASE}`"


class Line(NamedTuple):
    """A method's figures by column, over its seeds."""

    method: str
    seeds: int
    figures: Mapping[str, Summary]


def lines(block: Block, values: Sequence[Value]) -> list[Line]:
    """Of the methods that have a value in the block, as they come."""
    by_method = _by_method(values)
    first = block.columns[0].heading
    base = _by_seed(by_method.get(BASE, ()), first)
    found = []
    for method, own in by_method.items():
        figures = {
            name: summarise(_by_seed(own, name).values())
            for name in dict.fromkeys(value.figure for value in own)
        }
        if method != BASE and method in block.methods:
            figures[DIFFERENCE] = _difference(_by_seed(own, first), base)
        seeds = {value.seed for value in own} - {None}
        found.append(Line(method, len(seeds), figures))
    return found


def _by_method(values: Sequence[Value]) -> dict[str, list[Value]]:
    found: dict[str, list[Value]] = {}
    for value in values:
        found.setdefault(value.method, []).append(value)
    return found


def _by_seed(values: Sequence[Value], figure: str) -> dict[int | None, float]:
    return {value.seed: value.value for value in values if value.figure == figure}


def _difference(ours: Mapping[int | None, float], theirs: Mapping[int | None, float]) -> Summary:
    return summarise(value - theirs[seed] for seed, value in ours.items() if seed in theirs)


def markdown(block: Block, found: Sequence[Line]) -> str:
    """The table as a page shows it."""
    first, *others = (column.heading for column in block.columns)
    marks = [block.at(mark) for mark in block.marks]
    # A table of the VAE alone has no differences.
    known = {name for line in found for name in line.figures}
    order = [first, DIFFERENCE, *others, EPOCHS, PRICE, *marks]
    columns = [name for name in order if name in known]
    seeds = min(line.seeds for line in found), max(line.seeds for line in found)
    said = f"{seeds[0]}" if seeds[0] == seeds[1] else f"{seeds[0]} to {seeds[1]}"
    title = f"**{block.title}**, {said} seed{'s' * (said != '1')}"
    digits = {column.heading: column.digits for column in block.columns}
    digits |= {DIFFERENCE: block.columns[0].digits, PRICE: 1, EPOCHS: 0}
    digits |= dict.fromkeys(marks, block.at_marks.digits)
    body = {
        f"`{line.method}`": [cell(line.figures.get(name), digits[name]) for name in columns]
        for line in found
    }
    return table(title, columns, body)


def duels(block: Block, values: Sequence[Value]) -> str:
    """How far one rival lies from the other in every column, seed for seed; as Markdown.

    Empty if no seed has both.
    """
    by_method = _by_method(values)
    known = [pair for pair in block.rivals if all(name in by_method for name in pair)]
    found: dict[Column, list[Summary]] = {}
    for column in block.columns:
        if column.third is None:
            found[column] = [
                _difference(*(_by_seed(by_method[name], column.heading) for name in pair))
                for pair in known
            ]
    # A column that no two rivals share is left out.
    found = {column: own for column, own in found.items() if any(summary.n for summary in own)}
    if not found:
        return ""
    body = {
        f"`{ours}` less `{theirs}`": [
            cell(own[row], column.digits) for column, own in found.items()
        ]
        for row, (ours, theirs) in enumerate(known)
    }
    return table(f"**{block.title}**, seed for seed", [column.heading for column in found], body)


def table(title: str, headings: Sequence[str], body: Mapping[str, Sequence[str]]) -> str:
    """Markdown: the title, and a line for each name with a cell for each heading."""
    return "\n".join([
        title,
        "",
        f"| | {' | '.join(headings)} |",
        f"|---|{'---|' * len(headings)}",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in body.items()),
    ])  # fmt: skip


def cell(summary: Summary | None, digits: int) -> str:
    """A mean with its interval, as a table has it."""
    if summary is None or not summary.n:
        return "—"
    width = "" if summary.half_width is None else f" ± {summary.half_width:.{digits}f}"
    return f"{summary.mean:.{digits}f}{width}".replace("-", "−")
