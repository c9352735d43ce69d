"""How to upload offline wandb runs later."""

from __future__ import annotations

import shlex
from pathlib import Path

from savi.errors import InputError


def sync_help(folder: Path) -> str:
    """The commands that upload the offline runs in a folder, and where they would go.

    Args:
        folder: the shared folder of all runs (``logger.folder``), a run folder, or any folder
            above run folders.

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
that have been uploaded are skipped. New runs upload by themselves with logger.mode=online."""


def offline_runs(folder: Path) -> list[Path]:
    """Wandb's offline runs directly in ``folder``, or else those below it, each once."""
    found = list(folder.glob("offline-run-*")) or sorted(
        # A run itself comes before the links to it.
        folder.rglob("offline-run-*"),
        key=lambda path: (path.is_symlink(), path),
    )
    runs = {path.resolve(): path for path in reversed(found) if any(path.glob("run-*.wandb"))}
    return sorted(runs.values())
