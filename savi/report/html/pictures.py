"""The pictures of a run as the page embeds them, in the colours of both themes."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from savi.report.figures.style import IMAGES, compact
from savi.report.runs import Run

ALT = {
    "data": "A grid of test images",
    "reconstructions": "Test images, their reconstructions from the encoder's guess, and those "
    "after the inner solve",
    "prior_samples": "A grid of samples from the prior, decoded",
    "inner_histograms": "Histograms of the inner solves' final stationarity and curvature",
    "latent_scatter": "The latent codes of test images as points in the plane",
    "latent_traversals": "Decoded images along single latent dimensions",
    "inner_steps": "The ELBO and the gradient norm against the inner step",
    "learning_curves": "Training and validation curves of the logged metrics",
}
"""What the pictures of a run folder show, by file name."""

CARD = (22, 27, 34)
"""The ground of the dark theme's cards, as the style sheet has it."""


MOST_PIXELS = 1 << 24
"""Larger than any that a run draws."""


class Picture(NamedTuple):
    """An embedded picture: its title, alternative text, and size in pixels.

    ``source`` and ``dark`` are data URLs in the colours of the two themes; the latter is empty for
    a picture of which it is not known where its images are.
    """

    title: str
    alt: str
    source: str
    dark: str
    width: int
    height: int


def pictures(run: Run) -> list[Picture]:
    """The PNG files of a run; the learning curves are there as plots already."""
    return [
        _picture(path) for path in run.figures if path.stem != "learning_curves" or not run.curves
    ]


def _picture(path: Path) -> Picture:
    title, content = path.stem.replace("_", " ").capitalize(), path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        boxes, size = _boxes(image), image.size
        dark = "" if boxes is None else _url(_bytes(darkened(image, boxes)))
    return Picture(title, ALT.get(path.stem, title), _url(content), dark, *size)


def _boxes(image: Image.Image) -> list[list[int]] | None:
    """Where the file says that there are images; None if it does not, or no run drew it."""
    if image.width * image.height > MOST_PIXELS:
        return None
    # A file may hold anything.
    with suppress(ValueError, RecursionError):
        boxes = json.loads(image.info.get(IMAGES, "null"))
        if isinstance(boxes, list) and all(_is_box(box) for box in boxes):
            return boxes
    return None


def _is_box(box: object) -> bool:
    sides = box if isinstance(box, list) else []
    return len(sides) == 4 and all(isinstance(side, int) and side >= 0 for side in sides)


def darkened(image: Image.Image, images: Sequence[Sequence[int]]) -> Image.Image:
    """A drawing on a white ground as one on the dark one: light and dark change places.

    Colours keep their hue, and the ``images`` in it, by their boxes, are as they were.
    """
    pixels = np.asarray(image.convert("RGB")).astype(float)
    turned = pixels + 255 - pixels.min(-1, keepdims=True) - pixels.max(-1, keepdims=True)
    ground = np.array(CARD)
    shown = (ground + turned * (255 - ground) / 255).round().clip(0, 255).astype(np.uint8)
    for left, top, right, bottom in images:
        shown[top:bottom, left:right] = pixels[top:bottom, left:right]
    return compact(Image.fromarray(shown))


def _bytes(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="png", optimize=True)
    return file.getvalue()


def _url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
