"""Fixtures that many tests share."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from savi.config.store import conf_dir, plain


@pytest.fixture(autouse=True, scope="session")
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture
def config() -> Callable[..., dict]:
    """A run's config as plain values, composed from overrides as on the command line."""

    def compose_plain(*overrides: str) -> dict:
        with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
            return plain(compose("config", overrides=list(overrides)))

    return compose_plain


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Call a console command's function in an empty folder, with arguments."""

    def call(function: Callable[[], None], *arguments: str) -> None:
        monkeypatch.chdir(tmp_path)
        # No credentials of whoever runs the tests.
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "argv", ["savi", *arguments])
        function()

    return call
