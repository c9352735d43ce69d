"""Fixtures that many tests share."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
import torch
from composing import composed

from savi.config.store import plain, register_schemas

register_schemas()

# The modules and tests that are loaded stay: each search for cycles would go through them.
gc.disable()

#: Added to every seed: SAVI_TEST_SEED=1 runs the same tests with other random numbers.
SHIFT = int(os.environ.get("SAVI_TEST_SEED", "0"))


class Shifted(torch.Generator):
    """A generator whose seeds are shifted."""

    shift = SHIFT

    def manual_seed(self, seed: int) -> torch.Generator:
        return super().manual_seed(seed + self.shift)


if SHIFT:
    unshifted = torch.manual_seed
    torch.manual_seed = lambda seed: unshifted(seed + Shifted.shift)
    torch.Generator = Shifted


#: The files that take longest. They come first, so that no process is left with one at the end.
LONGEST = (
    *("test_sweep.py", "test_extending.py", "test_peers.py", "test_benchmark_step.py"),
    *("test_gradient_check.py", "test_safety_run.py", "test_trust_region.py", "test_loggers.py"),
    *("test_cli.py", "test_devices.py", "test_replicas_ensemble.py", "test_inner_optimizers.py"),
    *("test_wheel.py", "test_peers_systems.py", "test_ppca.py", "test_gradient_backends.py"),
    *("test_resume.py", "test_replicas_resume.py", "test_precision.py", "test_media.py"),
    *("test_hypergradient_oracle.py", "test_warm_start.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


def pytest_collection_finish() -> None:
    """Search for cycles from here on, in what the tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """A process in the background of a script ignores Ctrl-C, and hands that on to its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    """The numbers that a test draws do not depend on the tests before it."""
    Shifted.shift = 0 if request.node.get_closest_marker("drawn") else SHIFT
    torch.manual_seed(0)


@pytest.fixture
def config() -> Callable[..., dict]:
    """A run's config as plain values, composed from overrides as on the command line."""

    register_schemas()

    def compose_plain(*overrides: str) -> dict:
        return plain(composed(*overrides))

    return compose_plain


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Call a console command's function in an empty folder, with arguments."""

    def call(function: Callable[[], None], *arguments: str) -> None:
        monkeypatch.chdir(tmp_path)
        # No credentials of whoever runs the tests.
        monkeypatch.setenv("MPLCONFIGDIR", matplotlib.get_cachedir())
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "argv", ["savi", *arguments])
        function()

    return call
