"""MNIST and the two sets published in its format: 70,000 images of 28x28 pixels."""

from pathlib import Path

from torchvision.datasets import KMNIST, MNIST, FashionMNIST

from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS
from savi.data.sets.idx import read_idx
from savi.data.sets.published import Published

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
        download=lambda root: _download(publisher, root),
        folder=f"{publisher.__name__}/raw",
        elsewhere=elsewhere,
    )
    with published.opened(path) as folder:

        def examples(prefix: str) -> Examples:
            images = read_idx(published.locate(folder, f"{prefix}-images-idx3-ubyte.gz"))
            labels = read_idx(published.locate(folder, f"{prefix}-labels-idx1-ubyte.gz"))
            return Examples(images.unsqueeze(1), labels.long())

        return RawData(train=examples("train"), test=examples("t10k"), levels=256)


def _download(publisher: type[MNIST], root: Path) -> None:
    publisher(root, download=True)
