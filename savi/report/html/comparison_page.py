"""The contents of the page on several runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from savi.report.best import Best, best_setting
from savi.report.folders import Found
from savi.report.html import tables
from savi.report.html.pictures import pictures
from savi.report.html.plots.base import SYMBOLS, colour, symbol
from savi.report.html.plots.comparison import COSTS, least_width, parallel_plot, pareto_plot
from savi.report.html.plots.curves import mean_curves, overlaid_metrics, run_curves
from savi.report.html.tables import seed_words
from savi.report.html.words import data_of, method
from savi.report.runs import Run
from savi.report.settings import Comparison, compare, show
from savi.report.table import described, full_label

MANY = 12
"""Above so many runs, the curves of single ones hide each other."""

FIRST_CURVES = ("val/elbo", "train/elbo")
"""The curves that are shown first, in order of preference."""


def comparison_context(found: Found) -> dict[str, Any]:
    """Everything that the template of a comparison needs."""
    runs = [run for run in found.runs if run.config or run.metrics or run.curves]
    comparison = compare(runs)
    table = tables.settings_table(comparison)
    overlays = {
        name: {"runs": run_curves(name, comparison), "means": mean_curves(name, comparison)}
        for name in overlaid_metrics(runs)
    }
    pareto = {f"pareto-{n}": pareto_plot(cost, comparison) for n, cost in enumerate(COSTS)}
    drawn = {key: plot for key, plot in pareto.items() if plot is not None}
    parallel = parallel_plot(runs, comparison)
    best = best_setting(runs)
    sections = {
        "status": ("Status", True),
        "curves": ("Curves", overlays),
        "settings": ("Settings", table),
        "pareto": ("Bound and cost", drawn),
        "parallel": ("Swept keys", parallel),
        "best": ("Best setting", best),
        "keys": ("Differences", comparison.differing),
    }
    return {
        "found": found,
        "counts": tables.counts(found),
        "rows": tables.status_rows(found, comparison),
        "timed": any(run.started for run in found.runs),
        "facts": facts(found, comparison),
        "caveats": caveats(runs),
        "legend": [
            {"label": s.label, "colour": colour(n), "shape": str(SYMBOLS.index(symbol(n)))}
            for n, s in enumerate(comparison.settings)
        ],
        "comparison": comparison,
        "table": table,
        "titles": {f"pareto-{n}": cost.title for n, cost in enumerate(COSTS)},
        "best_setting": best and _best_words(best),
        "means_first": len(runs) > MANY and any(len(s.runs) > 1 for s in comparison.settings),
        "pictures": pictures(best.setting.runs[0]) if best else [],
        "differences": differences(comparison),
        "sections": {key: title for key, (title, content) in sections.items() if content},
        "menu": menu(list(overlays)),
        "overlays": overlays,
        "plots": drawn | ({"parallel": parallel} if parallel else {}),
        "parallel_width": parallel and least_width(parallel),
    }


def _best_words(best: Best) -> dict[str, Any]:
    """The best setting, its figure in words, and which of its runs the pictures are of."""
    first = best.setting.runs[0]
    words = {"setting": best.setting.label, "metric": full_label(best.metric), "pictured": first}
    return words | {"value": best.words, "seed": seed_words(first), "command": best.command}


def facts(found: Found, comparison: Comparison) -> list[tuple[str, str]]:
    """How many runs and settings, of what."""
    rows = {
        "Runs": str(len(found.runs) + found.unstarted),
        "Settings": str(len(comparison.settings)),
    }
    for title, name in {"Methods": method, "Data": data_of}.items():
        values = list(dict.fromkeys(name(run) for run in found.runs if name(run)))
        rows[title] = ", ".join(values[:8]) + (" …" if len(values) > 8 else "")
    return [(name, value) for name, value in rows.items() if value]


def caveats(runs: Sequence[Run]) -> list[str]:
    """Why some figures do not compare."""
    found = []
    if len({data_of(run) for run in runs if run.config}) > 1:
        found.append(
            "The runs are on different data: bounds and likelihoods of different data are not "
            "comparable, and a mark for the best says nothing across them."
        )
    families = {run.options.get("posterior.name") for run in runs}
    if "point_mass" in families:
        found.append("The “ELBO” of a point mass is log p(x, z), which is no bound on log p(x).")
    return found


def differences(comparison: Comparison) -> list[tuple[str, bool, list[str]]]:
    """Each key in which runs differ, whether it names the settings, and its values by setting."""
    return [
        (key, key in comparison.swept, [show(s.values.get(key)) for s in comparison.settings])
        for key in comparison.differing
    ]


def menu(names: list[str]) -> dict[str, list[tuple[str, str, bool]]]:
    """Group -> metrics (logged name, words, whether it is shown first)."""
    first = next((name for name in FIRST_CURVES if name in names), names[0] if names else None)
    groups: dict[str, list[tuple[str, str, bool]]] = {}
    for name in names:
        entry = (name, f"{full_label(name)} ({name})", name == first)
        groups.setdefault(described(name).group, []).append(entry)
    return groups
