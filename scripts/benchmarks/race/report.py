"""The best model so far at every mark, the lead over the best plain VAE, tables and targets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.table import Table

from benchmarks.harness import Target, table
from benchmarks.race.methods import VAES
from benchmarks.race.run import Row
from savi.report.settings import Summary, summarise

#: The line of the best plain VAE, as validation finds it at each mark.
BEST = "best VAE"
#: Test values by mark.
Curve = Mapping[float, float]
#: Curves by name and seed.
Curves = Mapping[str, Mapping[int, Curve]]
#: Means over the seeds with their intervals, by name and mark.
Summaries = Mapping[str, Mapping[float, Summary]]


class Claim(NamedTuple):
    """A method is to lie so many nats above another, at every mark from some second on."""

    size: int
    method: str
    rival: str
    least: float
    start: float = 0.0


CLAIMS = (
    Claim(1_000, "savi", BEST, 20.0, 15.0),
    Claim(1_000, "savi", "vlae", 0.0),
    Claim(1_000, "savi", "sa_vae", 0.0),
    *(
        Claim(size, "auto", BEST, least, start)
        for size in (10_000, 50_000)
        for least, start in ((-1.0, 60.0), (0.0, 600.0))
    ),
)


def best_so_far(rows: Iterable[Row]) -> dict[float, float]:
    """At each mark the test value where validation was best, there or before; NaN if nowhere.

    Of one run, or of several that race as one.
    """
    rows = list(rows)
    best: dict[float, float] = {}
    for mark in sorted({row.mark for row in rows}):
        row = best_row(row for row in rows if row.mark <= mark)
        best[mark] = math.nan if row is None else row.test
    return best


def best_row(rows: Iterable[Row]) -> Row | None:
    """The verdict on the model that is best in validation; None if no validation is finite."""
    known = [row for row in rows if math.isfinite(row.val)]
    return max(known, key=lambda row: row.val) if known else None


def curves(rows: Sequence[Row], size: int) -> Curves:
    """Of each method, and of the best VAE, with so many training images."""
    found: dict[str, dict[int, Curve]] = {}
    here = [row for row in rows if row.size == size]
    for name in dict.fromkeys([BEST, *(row.method for row in here)]):
        members = list(VAES) if name == BEST else [name]
        seeds = dict.fromkeys(row.seed for row in here if row.method in members)
        found[name] = {
            seed: best_so_far(r for r in here if r.method in members and r.seed == seed)
            for seed in seeds
        }
    return found


def lead(curves: Curves, name: str, rival: str) -> dict[float, Summary]:
    """How far one lies above another by mark, seed for seed of those that both have."""
    ours, theirs = curves[name], curves[rival]
    return {
        mark: summarise(ours[seed][mark] - theirs[seed][mark] for seed in ours if seed in theirs)
        for mark in next(iter(ours.values()))
    }


def means(curves: Curves) -> Summaries:
    """Of every line by mark."""
    return {
        name: {
            mark: summarise(curve[mark] for curve in by_seed.values())
            for mark in next(iter(by_seed.values()))
        }
        for name, by_seed in curves.items()
    }


def leads(curves: Curves) -> Summaries:
    """Of every method but the plain VAEs over the best of these."""
    return {name: lead(curves, name, BEST) for name in curves if name != BEST and name not in VAES}


def race_table(rows: Sequence[Row], size: int, samples: int) -> Table:
    """Every line's mean at every mark, and below it the lead over the best VAE."""
    found = curves(rows, size)
    ahead, cells = leads(found), []
    ends = []
    for name, summaries in means(found).items():
        cells.append([name, *map(_cell, summaries.values())])
        if name in ahead:
            cells.append(["  − best VAE", *(_cell(s, "+") for s in ahead[name].values())])
        ends.append(len(cells) - 1)
    here = [row for row in rows if row.size == size]
    effective = [row.test_effective for row in here if math.isfinite(row.test_effective)]
    lost = dict.fromkeys(f"{row.method} (seed {row.seed})" for row in here if row.diverged)
    caption = (
        "Nats of test images: means over the seeds "
        f"({', '.join(map(str, sorted({row.seed for row in here})))}), and below them half the "
        "width of their 95 % interval by Student's t. At each mark the model counts that was best "
        "in validation so far."
    )
    if effective:
        caption += f" Effective samples {min(effective):.0f} to {max(effective):.0f} of {samples}."
    if lost:
        caption += f" Diverged: {', '.join(lost)}."
    marks = next(iter(next(iter(found.values())).values()))
    return table(
        f"Log-likelihood after CPU seconds of training, {size:,} images",
        caption,
        cells,
        left=["Method"],
        right=[f"{mark:g} s" for mark in marks],
        ends=lambda row: row in ends,
    )


def _cell(summary: Summary, sign: str = "") -> str:
    if not summary.n:
        return "—"
    text = f"{summary.mean:{sign}.1f}".replace("-", "−")
    return text if summary.half_width is None else f"{text}\n±{summary.half_width:.1f}"


def targets(rows: Sequence[Row], claims: Sequence[Claim] = CLAIMS) -> list[tuple[Claim, Target]]:
    """Of those claims whose lines and marks are there: the least lead, as a mean over the seeds."""
    found = []
    for claim in claims:
        there = curves(rows, claim.size)
        if not (there.get(claim.method) and there.get(claim.rival)):
            continue
        ahead = lead(there, claim.method, claim.rival)
        late = [summary.mean for mark, summary in ahead.items() if mark >= claim.start]
        if late:
            least = min(late, key=lambda value: (not math.isnan(value), value))
            base = claim.rival if not claim.start else f"{claim.rival} from {claim.start:g} s on"
            target = Target(least, base, math.inf, claim.least, unit="nats over")
            found.append((claim, target))
    return found


def target_table(found: Sequence[tuple[Claim, Target]]) -> Table:
    """What is asked of the race."""
    return table(
        "Targets",
        "The least of the leads at the marks, each a mean over the seeds.",
        [[f"{claim.size:,}", claim.method, target] for claim, target in found],
        left=["Images", "Method"],
        last=["Lead, target"],
    )
