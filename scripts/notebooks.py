"""Run the notebooks of docs/notebooks and keep what they show: ``python scripts/notebooks.py``.

A notebook is run in its order, by a kernel of its own and in an empty folder; ``NAME...`` runs
some of them. Each keeps a digest of the code that has made its outputs.
"""

import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"


def read(path: Path) -> NotebookNode:
    """A notebook's file."""
    return nbformat.read(path, as_version=4)


def code_of(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that are run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest(notebook: NotebookNode) -> str:
    """What tells outputs of this code from those of another."""
    text = "\n\n".join(cell.source for cell in code_of(notebook))
    return hashlib.sha256(text.encode()).hexdigest()


def renew(path: Path) -> str:
    """Execute a notebook's file in place; how long that took, and how large it is."""
    from nbclient import NotebookClient

    os.environ["COLUMNS"] = "80"
    began = time.perf_counter()
    notebook = read(path)
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        # When each cell ran would differ each time.
        NotebookClient(
            notebook, timeout=None, resources=where, record_timing=False, coalesce_streams=True
        ).execute()
    notebook.metadata["digest"] = digest(notebook)
    nbformat.write(notebook, path)
    return f"{path.name}: {time.perf_counter() - began:.0f} s, {path.stat().st_size / 1e3:.0f} kB"


def main(chosen: list[str]) -> None:
    """Run the chosen notebooks, or all."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not chosen or path.stem in chosen:
            print(renew(path))


if __name__ == "__main__":
    main(sys.argv[1:])
