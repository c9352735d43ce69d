"""The notebooks of docs/: their outputs are of the code that they show, which runs."""

import ast
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest
from notebooks import FOLDER, code_of, digest, read
from programs import finished

PATHS = sorted(FOLDER.glob("*.ipynb"))
pytestmark = pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])

RENEW = f"""
import sys
sys.path.insert(0, {str(Path(sys.modules["notebooks"].__file__).parent)!r})
from pathlib import Path
from notebooks import renew
print(renew(Path(sys.argv[1])))
"""


def kinds(notebook):
    """What sort of output each cell has."""
    return [[output.output_type for output in cell.outputs] for cell in code_of(notebook)]


def test_what_is_shown_is_of_this_code(path):
    notebook = read(path)
    assert notebook.metadata["digest"] == digest(notebook), "run scripts/notebooks.py"
    assert [cell.execution_count for cell in code_of(notebook)] == list(
        range(1, len(code_of(notebook)) + 1)
    )
    shown = [kind for cell in kinds(notebook) for kind in cell]
    assert "stream" in shown
    assert "display_data" in shown
    assert "error" not in shown
    assert path.stat().st_size < 400_000


def test_its_code_is_valid_and_what_it_imports_is_there(path):
    notebook = read(path)
    imported = 0
    for cell in code_of(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("savi"):
                for name in node.names:
                    assert hasattr(import_module(node.module), name.name), name.name
                    imported += 1
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "savi":
                assert hasattr(import_module("savi"), node.attr), node.attr
                imported += 1
    assert imported > 0


@pytest.mark.long
@pytest.mark.slow
def test_it_runs_and_shows_as_much_again(path, tmp_path):
    copy = tmp_path / path.name
    shutil.copy(path, copy)
    code, out = finished(RENEW, str(copy), cwd=tmp_path)
    assert code == 0, out
    assert kinds(read(copy)) == kinds(read(path))
