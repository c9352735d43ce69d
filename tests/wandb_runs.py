"""Offline wandb runs, read back by wandb's own reader."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def _inspect(path: Path, *options: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def summary_of(path: Path) -> dict[str, Any]:
    """State, exit code, config and summary of a run."""
    return json.loads(_inspect(path, "--summary"))


def records_of(path: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind: ``run``, ``metric``, ``history``."""
    records = map(json.loads, _inspect(path).splitlines())
    return [record[kind] for record in records if record["type"] == kind]


def history_of(path: Path) -> list[dict[str, Any]]:
    """What was logged, a dict for each call; media and histograms are dicts again."""
    rows = []
    for record in records_of(path, "history"):
        row: dict[str, Any] = {}
        for name, value in record["item"].items():
            outer, dot, inner = name.partition(".")
            if dot:
                row.setdefault(outer, {})[inner] = value
            else:
                row[name] = value
        rows.append(row)
    return rows
