"""Encoded images into one tensor, once: decode in chunks, and keep the result in a file."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from savi.data.raw import Examples

_CHUNK = 1024

_log = logging.getLogger(__name__)


def decode(
    encoded: Iterable[bytes],
    mode: str,
    transform: Callable[[UInt8[Tensor, "B C H W"]], UInt8[Tensor, "B C h w"]],
) -> UInt8[Tensor, "N C h w"]:
    """Decode PNG or JPEG images of one size, grey (``L``) or ``RGB``, and crop them or so."""
    images = (np.atleast_3d(np.asarray(Image.open(BytesIO(one)).convert(mode))) for one in encoded)
    return torch.cat([transform(chunk).contiguous() for chunk in _chunks(images)])


def cached(
    file: Path, sources: Iterable[Path], build: Callable[[], dict[str, Examples]]
) -> dict[str, Examples]:
    """What ``build`` returned when the file was written; built and written if need be.

    The file counts only while it is no older than any source. In a folder that cannot be written
    to, the examples are built each time.
    """
    if file.exists() and all(file.stat().st_mtime >= one.stat().st_mtime for one in sources):
        saved = torch.load(file, weights_only=True)
        return {name: Examples(values, labels) for name, (values, labels) in saved.items()}
    _log.info("decoding the images for %s, which happens once", file)
    splits = build()
    if os.access(file.parent, os.W_OK):
        unfinished = file.with_suffix(f".{os.getpid()}")
        torch.save({name: (one.values, one.labels) for name, one in splits.items()}, unfinished)
        os.replace(unfinished, file)
    return splits


def _chunks(images: Iterator[np.ndarray]) -> Iterator[Tensor]:
    """Images [H, W, C] a chunk at a time, as tensors [B, C, H, W]."""
    while chunk := list(islice(images, _CHUNK)):
        yield torch.from_numpy(np.stack(chunk)).permute(0, 3, 1, 2)
