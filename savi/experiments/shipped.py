"""Trained models that come with savi, each by its name: ``savi.load("digits")``."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "pretrained"


def shipped() -> dict[str, Path]:
    """Their checkpoints by name; a model card, NAME.md, lies beside each."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.ckpt"))}


def located(run_or_checkpoint: str | Path) -> Path:
    """The file or folder of that path, or the checkpoint of that name where there is no such path.

    A path that leads to nothing comes back as it is.
    """
    path = Path(run_or_checkpoint)
    return path if path.exists() else shipped().get(str(run_or_checkpoint), path)
