"""SVHN: 99,289 colour images of house numbers, cropped to 32x32 pixels."""

from pathlib import Path

import torch
from torchvision.datasets import SVHN

from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS
from savi.data.sets.published import Published


@DATASETS.register("svhn")
def svhn(path: Path | None = None) -> RawData:
    """Street View house numbers (Netzer et al. 2011), without the "extra" images."""
    published = Published(
        "svhn",
        files=tuple(SVHN.split_list[split][1] for split in ("train", "test")),
        download=_download,
    )
    with published.opened(path) as folder:
        return RawData(train=_examples(folder, "train"), test=_examples(folder, "test"), levels=256)


def _examples(folder: Path, split: str) -> Examples:
    digits = SVHN(folder, split=split)
    images = torch.from_numpy(digits.data).contiguous()
    return Examples(images, torch.from_numpy(digits.labels))


def _download(root: Path) -> None:
    for split in ("train", "test"):
        SVHN(root, split=split, download=True)
