"""Files of a run folder that somebody has torn, replaced, removed or made up."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from random import Random

import yaml

from soaks.mutants import changed_bytes, changed_tree, changed_value

#: The bytes of a file that no memory holds, and no disk either: a hole.
HUGE = 1 << 40


def tear(chance: Random, folder: Path) -> str:
    """Do something to one of the files, or to a folder."""
    # Not through a link that was put there before: it may lead to a file of the machine's.
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    files = [path for path in files if 0 < path.stat().st_size < HUGE]
    target = chance.choice(files)
    told = f"{target.relative_to(folder)}"
    kind = chance.choice(
        ("bytes", "bytes", "bytes", "value", "value", "value", "folder", "loop", "gone", "huge",
         "fifo", "other", "link", "deep")
    )  # fmt: skip
    if kind == "value" and target.suffix not in (".json", ".yaml", ".csv"):
        target = folder / "metrics.json" if folder / "metrics.json" in files else target
        told = f"{target.relative_to(folder)}"
    if kind == "bytes":
        target.write_bytes(changed_bytes(chance, target.read_bytes()))
    elif kind == "value":
        told += f" {_change_values(chance, target)}"
    elif kind == "other":
        other = chance.choice(files).read_bytes()
        target.write_bytes(other)
    else:
        target.unlink()
        if kind == "folder":
            (target / "in").mkdir(parents=True)
        elif kind == "loop":
            target.symlink_to(target.name)
        elif kind == "huge":
            with target.open("wb") as file:
                file.truncate(HUGE)
        elif kind == "fifo":
            os.mkfifo(target)
        elif kind == "link":
            target.symlink_to(
                chance.choice(("/dev/zero", "/dev/null", "/", "/etc/passwd", "nowhere"))
            )
        elif kind == "deep":
            target.write_text("[" * 10_000 + "]" * 10_000)
    return f"{kind} {told}"


def _change_values(chance: Random, target: Path) -> str:
    """Change values of a file of them, which stays one that can be read."""
    text = target.read_text("utf-8", "replace")
    if target.suffix == ".csv":
        rows = [line.split(",") for line in text.splitlines()]
        row = chance.choice(rows)
        cell = chance.randrange(len(row))
        row[cell] = str(changed_value(chance, chance.choice((row[cell], 1.0))))
        target.write_text("\n".join(map(",".join, rows)) + "\n", errors="replace")
        return "a cell"
    if target.suffix not in (".json", ".yaml"):
        return "nothing"
    try:
        tree = json.loads(text) if target.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        # It has been changed before.
        return "nothing"
    changed, what = changed_tree(chance, copy.deepcopy(tree))
    try:
        text = json.dumps(changed) if target.suffix == ".json" else yaml.dump(changed)
    except (TypeError, ValueError, RecursionError):
        return "nothing"
    target.write_text(text, errors="replace")
    return what
