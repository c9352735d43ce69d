"""Encoded images into one tensor, once: decode in chunks, and keep the result in a file."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from savi.data.raw import Examples

_CHUNK = 1024

_log = logging.getLogger(__name__)


def decode(
    encoded: Iterable[bytes],
    mode: ImageReadMode,
    transform: Callable[[UInt8[Tensor, "B C H W"]], UInt8[Tensor, "B C h w"]],
) -> UInt8[Tensor, "N C h w"]:
    """Decode PNG or JPEG images of one size and transform them, many at a time.

    Args:
        encoded: The contents of the image files.
        mode: Grey or colour.
        transform: E.g. a crop and a resize.
    """
    images = (
        decode_image(torch.frombuffer(bytearray(one), dtype=torch.uint8), mode) for one in encoded
    )
    return torch.cat([transform(torch.stack(chunk)) for chunk in _chunks(images)])


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


def _chunks(images: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    remaining = iter(images)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk
