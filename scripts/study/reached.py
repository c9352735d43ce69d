"""What each line of a race reaches, from when on it leads, and what refinement gains in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.race.methods import VAES
from benchmarks.race.report import BEST, best_row, curves, lead
from benchmarks.race.run import Row

from savi.report.settings import Summary, summarise
from study.tables import cell, table

HEADINGS = (
    "ms a step", "log p(x)", "best at, s", f"over the {BEST}", "ahead from, s",
    "gain, training examples", "gain, held out", "active units",
)  # fmt: skip


def reached(rows: Sequence[Row], size: int) -> str:
    """A line for each method and for the best VAE with so many training images, as Markdown.

    The gain is L(λK) − L(λ0) by the steps that tests take, an amortisation gap that is the same
    for all methods that refine alike. It is of the model that was best in validation, as log p(x)
    is. Ahead is who from that mark on leads the best VAE in the mean over the seeds.
    """
    here = [row for row in rows if row.size == size]
    found = curves(here, size)
    body = {}
    for name, seeds in found.items():
        members = VAES if name == BEST else (name,)
        own = [row for row in here if row.method in members]
        by_seed = [best_row(row for row in own if row.seed == seed) for seed in seeds]
        best = [row for row in by_seed if row is not None]
        end = max(row.mark for row in own)
        last = [row for row in own if row.mark == end and row.steps]
        ahead = lead(found, name, BEST)
        body[f"`{name}`"] = [
            cell(summarise(1e3 * row.seconds / row.steps for row in last), 0),
            cell(summarise(row.test for row in best), 1),
            cell(summarise(row.mark for row in best), 0),
            "—" if name == BEST else cell(ahead[end], 1),
            "—" if name == BEST else _said(ahead_from(ahead)),
            cell(summarise(row.train_gain for row in best), 1),
            cell(summarise(row.val_gain for row in best), 1),
            cell(summarise(row.active for row in best), 1),
        ]
    return table(f"**What each reaches, {size:,} images**", HEADINGS, body)


def ahead_from(leads: Mapping[float, Summary]) -> float | None:
    """The first mark from which on the mean of the leads is above zero; None if there is none."""
    since = None
    for mark, summary in leads.items():
        if not summary.mean > 0:
            since = None
        elif since is None:
            since = mark
    return since


def _said(mark: float | None) -> str:
    return "never" if mark is None else f"{mark:g}"
