"""Diagrams of arrows as pictures in the page, in the colours of its theme."""

import re
from graphlib import TopologicalSorter
from statistics import mean
from typing import Any

DIAGRAM = re.compile(r"```mermaid\ngraph TD\n(.*?)```", re.DOTALL)
ARROW = re.compile(r"(\w+) --> (\w+)")

#: A node's width and height, and the distances between nodes.
WIDTH, HEIGHT, ACROSS, DOWN = 108, 26, 124, 58


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Draw the diagrams of a page."""
    return DIAGRAM.sub(lambda found: drawn(ARROW.findall(found[1])), markdown)


def drawn(arrows: list[tuple[str, str]]) -> str:
    """Nodes above all that they point at, as near to them as may be."""
    below: dict[str, set[str]] = {}
    for start, end in arrows:
        below.setdefault(start, set()).add(end)
        below.setdefault(end, set())
    level: dict[str, int] = {}
    for node in TopologicalSorter(below).static_order():
        level[node] = 1 + max((level[other] for other in below[node]), default=-1)
    top = max(level.values())
    rows = [[node for node in below if level[node] == top - row] for row in range(top + 1)]
    place: dict[str, float] = {}
    for row in rows:
        above = {node: [s for s, e in arrows if e == node and s in place] for node in row}
        wanted = {node: mean([place[s] for s in above[node]] or [0.0]) for node in row}
        row.sort(key=wanted.__getitem__)
        shift = mean(wanted.values()) - (len(row) - 1) / 2
        place |= {node: shift + number for number, node in enumerate(row)}
    left = min(place.values())
    x = {node: round((place[node] - left) * ACROSS + WIDTH / 2 + 1) for node in place}
    y = {node: (top - level[node]) * DOWN + HEIGHT // 2 + 1 for node in place}
    width, height = max(x.values()) + WIDTH // 2 + 1, top * DOWN + HEIGHT + 2
    shapes = [curve(x[s], y[s] + HEIGHT // 2, x[e], y[e] - HEIGHT // 2) for s, e in arrows]
    for node in place:
        corner = f'x="{x[node] - WIDTH // 2}" y="{y[node] - HEIGHT // 2}"'
        shapes.append(f'<rect {corner} width="{WIDTH}" height="{HEIGHT}" rx="4"/>')
        shapes.append(f'<text x="{x[node]}" y="{y[node] + 4}">{node}</text>')
    return f'<svg class="diagram" viewBox="0 0 {width} {height}">{"".join(shapes)}</svg>'


def curve(x: int, y: int, to_x: int, to_y: int) -> str:
    """An arrow, which leaves and arrives upright."""
    middle = (y + to_y) // 2
    return f'<path d="M{x} {y} C{x} {middle}, {to_x} {middle}, {to_x} {to_y}"/>'
