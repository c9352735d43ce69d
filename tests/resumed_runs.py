"""Runs that are stopped and go on, held against runs that nobody has stopped."""

import json
import signal
from pathlib import Path

import torch

from savi.training import SemiAmortizedVAE

#: Seconds and memory are a machine's, not a run's; paths a folder's.
OTHER = {
    *("cost/step_seconds", "cost/peak_memory_mb", "seconds", "peak_memory_mb", "savi_config"),
    *("dirpath", "best_model_path", "best_k_models", "kth_best_model_path", "last_model_path"),
}


class Signals:
    """Sends a signal to this process in its n-th training step from now."""

    def __init__(self, monkeypatch):
        self.left = None
        step = SemiAmortizedVAE.training_step

        def training_step(module, *args):
            if self.left is not None:
                self.left -= 1
                if self.left == 0:
                    signal.raise_signal(signal.SIGTERM)
            return step(module, *args)

        monkeypatch.setattr(SemiAmortizedVAE, "training_step", training_step)


def assert_same_runs(folder: Path, whole: Path) -> None:
    """The same weights, states, figures and curves, to the last bit."""
    figures, expected = (
        json.loads((path / "metrics.json").read_text()) for path in (folder, whole)
    )
    found = {k: (figures.get(k), v) for k, v in without(expected).items() if figures.get(k) != v}
    assert not found, found
    assert figures.keys() == expected.keys()
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    for name in ("best.ckpt", "last.ckpt"):
        same, expected = (
            torch.load(path / "checkpoints" / name, weights_only=True) for path in (folder, whole)
        )
        found = differing(same, expected, name)
        assert not found, found


def without(figures: dict) -> dict:
    return {name: value for name, value in figures.items() if name not in OTHER}


def differing(one, other, path: str) -> list[str]:
    """Where two checkpoints differ."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{path}: {one.keys() ^ other.keys()}"]
        return [
            place
            for key in one.keys() - OTHER
            for place in differing(one[key], other[key], f"{path}/{key}")
        ]
    if isinstance(one, list | tuple):
        pairs = enumerate(zip(one, other, strict=True))
        return [place for i, pair in pairs for place in differing(*pair, f"{path}/{i}")]
    return [] if one == other else [f"{path}: {one} {other}"]
