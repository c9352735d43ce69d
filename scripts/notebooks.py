"""Run the notebooks of docs/notebooks and keep what they show: ``python scripts/notebooks.py``.

A notebook is run in its order, from an empty namespace and in an empty folder; ``NAME...`` runs
some of them. Each keeps a digest of the code that has made its outputs.
"""

import ast
import base64
import hashlib
import io
import json
import os
import sys
import tempfile
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"

Cell = dict[str, Any]


def code_of(notebook: dict[str, Any]) -> list[Cell]:
    """The cells that are run."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell: Cell) -> str:
    """A cell's text."""
    return "".join(cell["source"])


def digest(notebook: dict[str, Any]) -> str:
    """What tells outputs of this code from those of another."""
    text = "\n\n".join(source(cell) for cell in code_of(notebook))
    return hashlib.sha256(text.encode()).hexdigest()


def execute(notebook: dict[str, Any]) -> None:
    """Run a notebook's cells, and put what they show into it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for number, cell in enumerate(code_of(notebook), start=1):
            cell["outputs"] = shown(source(cell), names)
            cell["execution_count"] = number
    notebook["metadata"]["digest"] = digest(notebook)


def shown(code: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """What a cell prints, its pictures, and the value of its last expression."""
    from matplotlib import pyplot

    parsed = ast.parse(code)
    last = parsed.body.pop() if isinstance(parsed.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        exec(compile(parsed, "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines(text)})
    for number in pyplot.get_fignums():
        stream = io.BytesIO()
        pyplot.figure(number).savefig(stream, format="png", dpi=80, bbox_inches="tight")
        data = {"image/png": base64.b64encode(stream.getvalue()).decode()}
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    pyplot.close("all")
    if value is not None and not code.rstrip().endswith(";"):
        data = {"text/plain": lines(repr(value))}
        outputs.append({"output_type": "execute_result", "data": data, "metadata": {}})
    return outputs


def lines(text: str) -> list[str]:
    """As notebooks keep a text."""
    return text.splitlines(keepends=True)


def renew(path: Path) -> str:
    """Execute a notebook's file in place; how long that took, and how large it is."""
    import matplotlib

    matplotlib.use("Agg")
    os.environ["COLUMNS"] = "80"
    began = time.perf_counter()
    notebook = json.loads(path.read_text("utf-8"))
    execute(notebook)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
    return f"{path.name}: {time.perf_counter() - began:.0f} s, {len(text.encode()) / 1e3:.0f} kB"


def main(chosen: list[str]) -> None:
    """Run the chosen notebooks, or all, each in a process of its own."""
    paths = [p for p in sorted(FOLDER.glob("*.ipynb")) if not chosen or p.stem in chosen]
    with get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
        for said in processes.imap(renew, paths):
            print(said)


if __name__ == "__main__":
    main(sys.argv[1:])
