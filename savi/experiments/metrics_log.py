"""``metrics.csv``: the figures of a run, a row for each moment at which some were logged."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from torch import Tensor

from savi.report.figures.curves import CSV_BYTES
from savi.runs.whole import write_text, writing

#: So many rows may wait in memory.
BUFFER = 50


class MetricsLog(Logger):
    """Appends rows to ``metrics.csv``, and writes it anew where a figure needs a new column.

    A run that is continued keeps the rows that it had at the checkpoint; whatever it has logged
    after that, it will log again.

    Args:
        folder: the run folder.
        rows: how many rows to keep of what is there.

    Attributes:
        rows: how many there are.
    """

    def __init__(self, folder: Path, rows: int = 0) -> None:
        super().__init__()
        self.folder, self.path = folder, folder / "metrics.csv"
        self._waiting: list[dict[str, Any]] = []
        kept = self._read()[:rows]
        if len(kept) < rows and self.path.is_file():
            lost = f"{self.path} is damaged: {rows - len(kept)} of its rows are lost"
            print(f"warning: {lost}", file=sys.stderr, flush=True)
        self._columns = sorted({name for row in kept for name, cell in row.items() if cell})
        self.rows = len(kept)
        if kept:
            self._rewrite(kept)
        else:
            self.path.unlink(missing_ok=True)

    @property
    def name(self) -> str:
        """Of no use here."""
        return ""

    @property
    def version(self) -> str:
        """Of no use here."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Those are in ``config.yaml``."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row."""
        figures = {k: v.item() if isinstance(v, Tensor) else v for k, v in metrics.items()}
        self._waiting.append(figures | {"step": self.rows if step is None else step})
        self.rows += 1
        if len(self._waiting) >= BUFFER:
            self.save()

    def save(self) -> None:
        """Write the rows that wait."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        if new := {name for row in waiting for name in row}.difference(self._columns):
            self._columns = sorted({*self._columns, *new})
            self._rewrite(self._read() + waiting)
            return
        with writing(self.path), self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(self._text(waiting, header=False))

    def finalize(self, status: str) -> None:
        """Write the rows that wait."""
        self.save()

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.is_file() or self.path.stat().st_size > CSV_BYTES:
            return []
        rows = []
        # A kill may have cut the last row short, which has no value for some columns then; and
        # damage have lengthened one, which has values for no column, or hidden the end of a cell.
        with (
            suppress(csv.Error),
            self.path.open(encoding="utf-8", errors="replace", newline="") as file,
        ):
            for row in csv.DictReader(file):
                if None not in row and None not in row.values():
                    rows.append(row)
        return rows

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        write_text(self.path, self._text(rows, header=True))

    def _text(self, rows: list[dict[str, Any]], header: bool) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, extrasaction="ignore")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
