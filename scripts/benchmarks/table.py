"""The look of the benchmarks' tables."""

from rich import box
from rich.table import Table
from rich.text import Text


def benchmark_table(title: str, caption: str) -> Table:
    """An empty table in the style of the other commands'."""
    return Table(
        title=Text(title),
        title_justify="left",
        caption=Text(caption),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
