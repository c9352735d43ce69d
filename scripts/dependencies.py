"""Build an environment of the lowest or the newest dependencies that pyproject.toml allows.

``python scripts/dependencies.py lowest|newest [--folder F] [--test [PATH ...]]`` makes a virtual
environment with what the tests need, shows the versions in it and, with ``--test``, runs tests
there: those of the whole suite by default. It takes some gigabytes, and is removed at the end
unless it has been given a folder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]

#: The extra with everything that the tests use.
EXTRA = "dev"

#: How a specifier begins that says which version is the lowest.
_FLOORS = (">=", "~=", "==")


def requirements(extra: str = EXTRA) -> list[Requirement]:
    """The project's own and those of an extra, with the extras that it consists of."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    own, found = canonicalize_name(project["name"]), []
    waiting = [*project["dependencies"], *project["optional-dependencies"][extra]]
    while waiting:
        requirement = Requirement(waiting.pop(0))
        if canonicalize_name(requirement.name) == own:
            for name in sorted(requirement.extras):
                waiting += project["optional-dependencies"][name]
        else:
            found.append(requirement)
    return found


def floor(requirement: Requirement) -> Version | None:
    """The lowest version that a requirement allows, by its text; None if it names none."""
    named = [s.version for s in requirement.specifier if s.operator in _FLOORS]
    return max(map(Version, named)) if named else None


def constraints(which: str) -> list[str]:
    """What pip is held to: nothing but pyproject.toml for the newest."""
    if which == "newest":
        return []
    floors = {requirement.name: floor(requirement) for requirement in requirements()}
    return [f"{name}=={version}" for name, version in floors.items() if version is not None]


def install(which: str, folder: Path) -> Path:
    """Make the environment; returns its Python."""
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    held = folder / "constraints.txt"
    held.write_text("\n".join(constraints(which)) + "\n", "utf-8")
    pip = [str(python), "-m", "pip", "--quiet", "--no-cache-dir", "install"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    wanted = ["--constraint", str(held), "--editable", f"{ROOT}[{EXTRA}]"]
    # What a machine holds pip to by its own configuration is older than the newest.
    free = os.environ | {"PIP_CONSTRAINT": os.devnull}
    subprocess.run([*pip, *wanted], env=free, check=True)
    return python


def show(python: Path) -> None:
    """What is allowed, and what there is, a line for each."""
    code = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
    needed = requirements()
    found = subprocess.run(
        [str(python), "-c", code, *(r.name for r in needed)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    for requirement, version in zip(needed, found, strict=True):
        print(f"{requirement.name:26} {requirement.specifier!s:16} {version}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=("lowest", "newest"))
    parser.add_argument("--folder", type=Path, help="where the environment goes, and is kept")
    parser.add_argument("--test", nargs="*", metavar="PATH", help="run these tests in it, or all")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        python = install(asked.which, asked.folder or Path(passing) / "venv")
        show(python)
        if asked.test is None:
            return
        tests = [str(python), "-m", "pytest", "-m", "not long", *asked.test]
        single = os.environ | {"OMP_NUM_THREADS": "1"}
        sys.exit(subprocess.run(tests, cwd=ROOT, env=single, check=False).returncode)


if __name__ == "__main__":
    main()
