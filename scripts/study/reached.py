"""What each line of a race reaches, from when on it leads, and what refinement gains in it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.race.methods import VAES
from benchmarks.race.report import BEST, Curves, curves, lead
from benchmarks.race.run import Row

from savi.report.settings import summarise
from study.tables import cell

HEADINGS = (
    "ms a step", "log p(x)", "best at, s", f"over the {BEST}", "ahead from, s",
    "gain, training examples", "gain, held out",
)  # fmt: skip


def reached(rows: Sequence[Row], size: int) -> str:
    """A line for each method and for the best VAE with so many training images, as Markdown.

    The gain is L(λK) − L(λ0) by the steps that tests take, an amortisation gap that is the same
    for all methods that refine alike. It is of the model that was best in validation, as log p(x)
    is. Ahead is who from that mark on leads the best VAE in the mean over the seeds.
    """
    here = [row for row in rows if row.size == size]
    found = curves(here, size)
    body = []
    for name in found:
        members = VAES if name == BEST else (name,)
        own = [row for row in here if row.method in members]
        best = best_rows(own)
        end = max(row.mark for row in own)
        last = [row for row in own if row.mark == end and row.steps]
        cells = [
            cell(summarise(1e3 * row.seconds / row.steps for row in last), 0),
            cell(summarise(row.test for row in best), 1),
            cell(summarise(row.mark for row in best), 0),
            "—" if name == BEST else cell(lead(found, name, BEST)[end], 1),
            "—" if name == BEST else _said(ahead_from(found, name)),
            cell(summarise(row.train_gain for row in best), 1),
            cell(summarise(row.val_gain for row in best), 1),
        ]
        body.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join([
        f"**What each reaches, {size:,} images**",
        "",
        f"| | {' | '.join(HEADINGS)} |",
        f"|---|{'---|' * len(HEADINGS)}",
        *body,
    ])  # fmt: skip


def best_rows(rows: Sequence[Row]) -> list[Row]:
    """Of each seed the verdict on the model that is best in validation."""
    known = [row for row in rows if row.val == row.val]
    seeds = sorted({row.seed for row in known})
    return [max((r for r in known if r.seed == seed), key=lambda r: r.val) for seed in seeds]


def ahead_from(found: Curves, name: str) -> float | None:
    """The first mark from which on the mean of the leads over the best VAE is above zero."""
    since = None
    for mark, summary in lead(found, name, BEST).items():
        if not summary.mean > 0:
            since = None
        elif since is None:
            since = mark
    return since


def _said(mark: float | None) -> str:
    return "never" if mark is None else f"{mark:g}"
