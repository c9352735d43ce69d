"""The wandb dashboard as code: panels for everything that savi logs, saved as a view of a project.

``python scripts/workspace.py`` prints the view as JSON, which needs neither a network nor a login;
``--save --entity NAME`` saves it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from savi.errors import InputError
from savi.report.metrics import METRICS, Metric, describe
from savi.report.wandb import (
    AXES,
    CURVES,
    FIGURES,
    OBJECTIVE,
    SPLITS,
    TRACE_ELBO,
    TRACE_STATIONARITY,
    axis,
    has_login,
)

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

#: The pictures that a run logs when it ends.
PICTURES = (
    "reconstructions",
    "prior_samples",
    "latent_traversals",
    "latent_scatter",
    "inner_steps",
    "inner_histograms",
    "learning_curves",
    "data",
)

#: What the sweeps of the comparison differ in, besides what a user adds to it.
SETTINGS = ("gradient.name", "inner.max_steps", "inner.rho", "optimizer.lr", "model.latent_dim")

#: What a chosen setting is reported by: the bound, and the time that it takes to train a step.
RESULT, TIME = "test/elbo", "cost/step_seconds"

#: Metrics that span decades.
LOGARITHMIC = frozenset(
    {
        "gamma",
        "inner/stationarity",
        "gradient/norm_encoder",
        "gradient/norm_decoder",
        "ift/linear_residual",
        "ift/error_bound",
    }
)


def curve_names(quantity: str) -> list[str]:
    """The curves of a quantity that a run logs while it trains; empty if it is measured once."""
    if quantity in CURVES:
        return [f"{split}/{quantity}" for split in SPLITS]
    return [quantity] if quantity.partition("/")[0] in AXES else []


def final_name(quantity: str) -> str:
    """Under what a quantity is in the summary of a finished run."""
    return quantity if quantity.partition("/")[0] in {*AXES, "cost"} else f"test/{quantity}"


def workspace(entity: str, project: str, name: str = "savi") -> Workspace:
    """The view: a section for each group of metrics, the pictures, and the comparison of runs.

    Curves are drawn against the axis that they are logged with: training over optimiser steps,
    validation over epochs, the trace of the inner solve over inner steps.

    Raises:
        InputError: if wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise InputError(
            "the dashboard needs wandb-workspaces, which is not installed: "
            "pip install 'savi-vae[dashboards]'"
        ) from None
    # The groups in the order of the tables; those that a project has no runs for stay empty.
    groups = list(dict.fromkeys(metric.group for metric in METRICS.values()))
    sections = [_comparison(), *(_group(group) for group in groups), _media()]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=sections,
        settings=ws.WorkspaceSettings(max_runs=20, sort_panels_alphabetically=False),
    )


def _group(group: str) -> Section:
    """Curves and final figures of one group of metrics."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    panels: list[Any] = []
    quantities = [quantity for quantity, metric in METRICS.items() if metric.group == group]
    for quantity in quantities:
        # Training and validation have different axes, so each has its own panel.
        panels += [_curve(name, quantity in LOGARITHMIC) for name in curve_names(quantity)]
    if group == "Inner problem":
        panels += [
            _line(TRACE_ELBO, "ELBO over the inner steps", "nats", False),
            _line(TRACE_STATIONARITY, "Stationarity over the inner steps", "", True),
        ]
    for quantity in quantities:
        # The last point of a curve of its own name says the same.
        if curve_names(quantity) != [quantity]:
            final = wr.SummaryMetric(final_name(quantity))
            panels.append(wr.BarPlot(title=_title(METRICS[quantity]), metrics=[final]))
    return ws.Section(name=group, panels=panels, is_open=group in ("Bound", "Gaps"))


def _curve(name: str, logarithmic: bool) -> Any:
    metric = describe(name)
    assert metric is not None
    split = f", {name.partition('/')[0]}" if name.startswith(SPLITS) else ""
    return _line(name, metric.label + split, metric.unit, logarithmic)


def _line(name: str, title: str, unit: str, logarithmic: bool) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(
        title=title, x=axis(name), y=[name], title_y=unit or None, log_y=logarithmic or None
    )


def _title(metric: Metric) -> str:
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _media() -> Section:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    panels: list[Any] = [
        wr.MediaBrowser(
            title=name.replace("_", " ").capitalize(),
            media_keys=[f"{FIGURES}/{name}"],
            num_columns=1,
        )
        for name in PICTURES
    ]
    return ws.Section(name="Media", panels=panels, is_open=True)


def _comparison() -> Section:
    """The runs of a sweep side by side: settings against the bound, and the bound against time."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key)) for key in SETTINGS]
    columns += [
        wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(TIME), log=True),
        wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(OBJECTIVE)),
    ]
    panels: list[Any] = [
        wr.ParallelCoordinatesPlot(title="Settings and what they lead to", columns=columns),
        wr.ScatterPlot(
            title=f"{METRICS['elbo'].label} against {METRICS[TIME].label.lower()}",
            x=wr.SummaryMetric(TIME),
            y=wr.SummaryMetric(RESULT),
            log_x=True,
        ),
        wr.ParameterImportancePlot(with_respect_to=OBJECTIVE),
    ]
    return ws.Section(name="Comparison", panels=panels, is_open=True)


def metric_names(view: Workspace) -> Iterator[tuple[str, str | None]]:
    """Every metric that a panel of the view shows, with its x axis where it is a curve."""
    import wandb_workspaces.reports.v2 as wr

    for panel in (panel for section in view.sections for panel in section.panels):
        if isinstance(panel, wr.LinePlot):
            yield from ((str(name), str(panel.x)) for name in panel.y)
            continue
        shown: list[Any] = []
        if isinstance(panel, wr.BarPlot):
            shown = panel.metrics
        elif isinstance(panel, wr.ScatterPlot):
            shown = [panel.x, panel.y]
        elif isinstance(panel, wr.ParallelCoordinatesPlot):
            shown = [column.metric for column in panel.columns]
        yield from ((part.name, None) for part in shown if isinstance(part, wr.SummaryMetric))


def save(view: Workspace) -> str:
    """Save the view in wandb and return its address.

    Raises:
        InputError: without a wandb login, and for what wandb refuses.
    """
    import wandb

    if not has_login():
        raise InputError("--save without a wandb login: run 'wandb login' or set WANDB_API_KEY")
    try:
        view.save()
    except (wandb.Error, OSError, ValueError) as error:
        raise InputError(f"the view could not be saved: {' '.join(str(error).split())}") from error
    return view.url


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the view as JSON, or save it: ``scripts/workspace.py [--save --entity NAME]``."""
    parser = argparse.ArgumentParser(description="The wandb dashboard of savi as a saved view.")
    parser.add_argument("--entity", help="user or team that owns the project")
    parser.add_argument("--project", default="savi", help="default: %(default)s")
    parser.add_argument("--name", default="savi", help="of the view; default: %(default)s")
    parser.add_argument("--save", action="store_true", help="save it, which needs a wandb login")
    options = parser.parse_args(arguments)
    try:
        if options.save and not options.entity:
            raise InputError("--save without --entity: name the user or team of the project")
        view = workspace(options.entity or "ENTITY", options.project, options.name)
        print(save(view) if options.save else json.dumps(view._spec, indent=2))
    except InputError as error:
        print(f"savi: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
