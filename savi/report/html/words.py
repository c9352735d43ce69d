"""Numbers, times and names as the page writes them."""

from __future__ import annotations

from datetime import datetime

from savi.report.runs import Run
from savi.report.settings import Summary
from savi.report.table import described


def figure(name: str, value: float) -> str:
    """A metric's value with the digits that suit it, and a true minus sign."""
    return described(name).format(value).replace("-", "−")


def interval(name: str, summary: Summary) -> str:
    """The half width of an interval as text; empty for a single run."""
    if summary.half_width is None:
        return ""
    # General formats would give an interval more digits than its mean has.
    general = described(name).spec.endswith("g")
    width = f"{summary.half_width:.2g}" if general else figure(name, summary.half_width)
    return f"± {width}"


def moment(time: datetime | None) -> str:
    """Date and time in UTC, of a time in UTC; empty if it is unknown."""
    return time.strftime("%Y-%m-%d %H:%M UTC") if time else ""


def method(run: Run) -> str:
    """What was trained: the experiment, or the gradient and the inner objective."""
    options = run.options
    parts = [options.get("gradient.name"), options.get("inner.objective")]
    return str(options.get("experiment") or ", ".join(str(part) for part in parts if part))


def data_of(run: Run) -> str:
    """The name of the data set; empty without a config."""
    return str(run.options.get("data.name") or "")
