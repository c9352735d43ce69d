"""MNIST and the two sets published in its idx format: 70,000 images of 28x28 pixels."""

import gzip
import math
import struct
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import KMNIST, MNIST, FashionMNIST

from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS
from savi.data.sets.published import Published

_UNSIGNED_BYTE = 8

#: So many bytes are read at once.
_PART = 1 << 20


def read_idx(file: Path) -> Tensor:
    """Read an idx file of unsigned bytes, compressed by gzip if its name ends in ``.gz``.

    The format is: two zero bytes, the type, the number n of dimensions, n big-endian 32-bit
    sizes, and the values in row-major order.

    Raises:
        ValueError: for a file that is not of this format or holds too few or too many values.
    """
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        header = stream.read(4)
        if len(header) < 4 or header[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
            raise ValueError(f"{file.name} is not an idx file of unsigned bytes")
        dims = header[3]
        sizes = stream.read(4 * dims)
        if len(sizes) < 4 * dims:
            raise ValueError(f"{file.name} ends within its header")
        shape = struct.unpack(f">{dims}I", sizes)
        claimed = math.prod(shape)
        # Nothing is set aside for what is claimed and not there, and no more is read than that.
        content = bytearray()
        while len(content) <= claimed and (part := stream.read(_PART)):
            content += part
        unread = len(content) > claimed and stream.read(1)
    if len(content) != claimed:
        held = f"{'at least ' if unread else ''}{len(content)}"
        raise ValueError(f"{file.name} holds {held} values, not {claimed}")
    values = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0).byte()
    return values.view(shape)


# Where Debian's package dataset-fashion-mnist puts its files.
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@DATASETS.register("mnist")
def mnist(path: Path | None = None) -> RawData:
    """Handwritten digits (LeCun, Bottou, Bengio and Haffner 1998)."""
    return _read("mnist", MNIST, path)


@DATASETS.register("fashion_mnist")
def fashion_mnist(path: Path | None = None) -> RawData:
    """Articles of clothing (Xiao, Rasul and Vollgraf 2017)."""
    return _read("fashion_mnist", FashionMNIST, path, DEBIAN)


@DATASETS.register("kmnist")
def kmnist(path: Path | None = None) -> RawData:
    """Cursive Japanese characters (Clanuwat et al. 2018)."""
    return _read("kmnist", KMNIST, path)


def _read(name: str, publisher: type[MNIST], path: Path | None, *elsewhere: Path) -> RawData:
    published = Published(
        name,
        files=tuple(file for file, _ in publisher.resources),
        download=lambda root: publisher(root, download=True),
        folder=f"{publisher.__name__}/raw",
        elsewhere=elsewhere,
    )
    with published.opened(path) as folder:

        def examples(prefix: str) -> Examples:
            images = read_idx(published.locate(folder, f"{prefix}-images-idx3-ubyte.gz"))
            labels = read_idx(published.locate(folder, f"{prefix}-labels-idx1-ubyte.gz"))
            if images.ndim != 3:
                raise ValueError(f"{prefix}-images-idx3-ubyte has {images.ndim} axes, not 3")
            return Examples(images.unsqueeze(1), labels.long())

        return RawData(train=examples("train"), test=examples("t10k"), levels=256)
