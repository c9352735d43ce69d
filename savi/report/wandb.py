"""What runs log to wandb and against which axis, whether there is a login, and uploading later."""

from __future__ import annotations

import netrc
import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from savi.errors import InputError

#: The optimiser step, as Lightning's logger calls it, the epoch, and the step of an inner solve.
STEP, EPOCH, INNER_STEP = "trainer/global_step", "epoch", "inner_trace/step"

#: What a curve is drawn against: prefix of its name -> axis.
AXES = {
    "train": STEP, "inner": STEP, "gradient": STEP, "ift": STEP,
    "val": EPOCH, "inner_trace": INNER_STEP,
}  # fmt: skip

#: What is logged while a run trains, for each split: ``train/elbo``, ``val/elbo`` and so on.
CURVES, SPLITS = ("elbo", "reconstruction", "kl", "gamma"), ("train", "val")

#: Under what wandb has the curves to look at first as well: ``wandb leet`` and a new workspace sort
#: panels by name, capitals before small letters. The inner steps close a part of the amortisation
#: gap, which is what they gain in the bound.
FIRST_PANELS = {
    "val/elbo": "Bound/1 val/elbo",
    "train/elbo": "Bound/2 train/elbo",
    "inner/improvement": "Bound/3 gap closed by inner steps",
}

#: L(λk), averaged over examples, and the median stationarity of the trained model's inner solve.
TRACE_ELBO, TRACE_STATIONARITY = "inner_trace/elbo", "inner_trace/stationarity"

#: Where pictures and histograms are logged.
FIGURES, HISTOGRAMS = "figures", "histograms"

#: The histograms of the examples' final stationarity, as its logarithm, and of their curvature.
STATIONARITY, CURVATURE = f"{HISTOGRAMS}/log10_stationarity", f"{HISTOGRAMS}/min_curvature"

#: The figure of merit, whose best epoch counts.
OBJECTIVE = "val/elbo"


def axis(name: str) -> str:
    """What the curve of a metric is drawn against."""
    return AXES[name.partition("/")[0]]


def has_login() -> bool:
    """Whether wandb's credentials are in the environment or in the netrc file."""
    import wandb

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        known = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return False
    host = os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url
    return urlsplit(host).hostname in known


def sync_help(folder: Path) -> str:
    """The commands that upload the offline runs in or below a folder, and where they would go.

    Raises:
        InputError: if there is no offline run in it.
    """
    runs = offline_runs(folder)
    if not runs:
        raise InputError(
            f"there is no offline wandb run in '{folder}': give the folder of a run or a sweep, "
            "or the logger.folder of all runs"
        )
    waiting = [run for run in runs if not any(run.glob("*.wandb.synced"))]
    count = f"{len(waiting)} of {len(runs)} offline run{'s' * (len(runs) > 1)} in {folder}"
    if not waiting:
        return f"{count} to upload: all have been uploaded."
    direct = all(run.parent == folder for run in waiting)
    paths = [folder] if direct else list(dict.fromkeys(run.parent for run in waiting))
    where = " \\\n    ".join(shlex.quote(str(path)) for path in paths)
    return f"""\
{count} to upload:

  wandb login    # once; or set WANDB_API_KEY
  wandb sync {where}

With --dry-run it tells what it would upload. Each run goes to the project that it was logged for
(logger.project), under your default entity; --project NAME and --entity NAME choose others. Runs
that have been uploaded are skipped; the parts of one that was stopped, and went on, come together.
New runs upload by themselves with logger.mode=online."""


def offline_runs(folder: Path) -> list[Path]:
    """Wandb's offline runs directly in ``folder``, or else those below it, each once."""
    found = list(folder.glob("offline-run-*")) or sorted(
        # A run itself comes before the links to it.
        folder.rglob("offline-run-*"),
        key=lambda path: (path.is_symlink(), path),
    )
    runs = {path.resolve(): path for path in reversed(found) if any(path.glob("run-*.wandb"))}
    return sorted(runs.values())
