"""The idx format in which MNIST and its successors are published."""

import gzip
import math
import struct
from pathlib import Path

import torch
from torch import Tensor

_UNSIGNED_BYTE = 8


def read_idx(file: Path) -> Tensor:
    """Read an idx file of unsigned bytes, compressed by gzip if its name ends in ``.gz``.

    The format is: two zero bytes, the type, the number n of dimensions, n big-endian 32-bit
    sizes, and the values in row-major order.

    Raises:
        ValueError: for a file that is not of this format or holds too few or too many values.
    """
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise ValueError(f"{file.name} is not an idx file of unsigned bytes")
    dims = content[3]
    start = 4 + 4 * dims
    if len(content) < start:
        raise ValueError(f"{file.name} ends within its header")
    shape = struct.unpack(f">{dims}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise ValueError(f"{file.name} holds {len(content) - start} values, not {math.prod(shape)}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[start:].view(shape)
