"""CIFAR-10: 60,000 colour images of 32x32 pixels."""

from pathlib import Path

import torch
from torchvision.datasets import CIFAR10

from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS
from savi.data.sets.published import Published


class _Batches(CIFAR10):
    """Torchvision's reader, with the files in ``root`` itself."""

    base_folder = ""


@DATASETS.register("cifar10")
def cifar10(path: Path | None = None) -> RawData:
    """Small photographs in ten classes (Krizhevsky 2009)."""
    listed = [*CIFAR10.train_list, *CIFAR10.test_list]
    published = Published(
        "cifar10",
        files=(*(file for file, _ in listed), CIFAR10.meta["filename"]),
        download=lambda root: CIFAR10(root, download=True),
        folder=CIFAR10.base_folder,
    )
    with published.opened(path) as folder:
        return RawData(train=_examples(folder, True), test=_examples(folder, False), levels=256)


def _examples(folder: Path, train: bool) -> Examples:
    batches = _Batches(folder, train=train)
    images = torch.from_numpy(batches.data).permute(0, 3, 1, 2).contiguous()
    return Examples(images, torch.tensor(batches.targets))
