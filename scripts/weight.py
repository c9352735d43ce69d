"""How heavy the project is: ``python scripts/weight.py [EXPERIMENT] [KEY=VALUE ...]``.

Prints lines and files of the package, of the benchmarks and of the tests; the circles of files and
the imports that run back up (see ``scripts/architecture.py``); and how many files of the package an
outer step of an experiment touches: those of which a function runs between the start of
``outer_loss`` and the end of its backward, after a first step that warms up.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import architecture
import torch
from benchmarks.progress import quiet
from hydra import compose, initialize_config_dir

from savi.config.store import conf_dir, plain, register_schemas
from savi.experiments.build import build

PACKAGE = ROOT / "savi"
#: What is counted, by name.
PARTS = {
    "package": [PACKAGE],
    "benchmarks": [ROOT / "scripts" / "benchmarks", ROOT / "scripts" / "benchmark.py"],
    "tests": [ROOT / "tests"],
}
#: Small, so that a step takes no time; the files that it touches do not depend on it.
SMALL = ("data=digits", "model.hidden=16", "model.latent_dim=2", "logger=csv")


def weigh(paths: list[Path]) -> tuple[int, int]:
    """Lines, blank ones and docstrings among them, and files of Python below some paths."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))]
    return sum(len(file.read_text("utf-8").splitlines()) for file in files), len(files)


@contextmanager
def touched() -> Iterator[set[str]]:
    """The files of the package of which a function runs inside."""
    found: set[str] = set()

    def look(frame: FrameType, event: str, argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            found.add(str(path.relative_to(ROOT)))

    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(None)


def files_of_a_step(experiment: str, *overrides: str) -> list[str]:
    """Those of one outer step, forward and backward, on a batch of digits."""
    register_schemas()
    with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
        chosen = (f"experiment={experiment}", *SMALL, *overrides)
        config = plain(compose("config", overrides=list(chosen)))
    torch.manual_seed(0)
    data, module = build(config)
    x = next(iter(data.train_dataloader())).x
    module.train()
    # The solve of an untrained model is not to be judged.
    with quiet():
        module.outer_loss(x, 1.0).loss.backward()
        with touched() as found:
            module.outer_loss(x, 1.0).loss.backward()
    return sorted(found)


def main(experiment: str = "savi_ift", *overrides: str) -> None:
    for name, paths in PARTS.items():
        lines, files = weigh(paths)
        print(f"{name:10} {lines:7,} lines in {files} files")
    imports = architecture.files()
    found, up = architecture.circle(imports), architecture.arrows_up(architecture.parts(imports))
    print(f"a circle of files: {' -> '.join(found) or 'none'}")
    print(f"imports that run back up: {', '.join(map(' -> '.join, up)) or 'none'}")
    step = files_of_a_step(experiment, *overrides)
    print(f"an outer step of {experiment} touches {len(step)} files: {', '.join(step)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
