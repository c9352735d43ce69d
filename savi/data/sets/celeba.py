"""CelebA: 202,599 aligned faces, cropped and reduced to 64x64 pixels."""

import zipfile
from pathlib import Path

from torch import Tensor
from torchvision.datasets import CelebA
from torchvision.datasets.utils import download_file_from_google_drive
from torchvision.transforms.functional import center_crop, resize

from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS
from savi.data.sets.images import cached, decode
from savi.data.sets.published import Published

_IMAGES = "img_align_celeba.zip"
_PARTITION = "list_eval_partition.txt"
_SPLITS = {"train": "0", "val": "1", "test": "2"}


@DATASETS.register("celeba")
def celeba(path: Path | None = None) -> RawData:
    """Faces of celebrities (Liu, Luo, Wang and Tang 2015), in the published three splits.

    The central 148x148 pixels are reduced to 64x64. There are no labels.
    """
    published = Published(
        "celeba", files=(_IMAGES, _PARTITION), download=_download, folder=CelebA.base_folder
    )
    with published.opened(path) as folder:
        images, partition = published.locate(folder, _IMAGES), folder / _PARTITION
        splits = cached(
            folder / "celeba_64x64.pt", [images, partition], lambda: _examples(images, partition)
        )
        return RawData(splits["train"], splits["val"], splits["test"], levels=256)


def _examples(images: Path, partition: Path) -> dict[str, Examples]:
    # The two kinds of path read alike, so that 202,599 files need not be unpacked.
    faces = zipfile.Path(images) / images.stem if images.suffix == ".zip" else images
    listed = [line.split() for line in partition.read_text().splitlines()]
    splits = {}
    for split, code in _SPLITS.items():
        files = ((faces / name).read_bytes() for name, number in listed if number == code)
        splits[split] = Examples(decode(files, "RGB", _central_64x64))
    return splits


def _central_64x64(faces: Tensor) -> Tensor:
    return resize(center_crop(faces, [148, 148]), [64, 64], antialias=True)


def _download(root: Path) -> None:
    for identifier, md5, file in CelebA.file_list:
        if file in (_IMAGES, _PARTITION):
            download_file_from_google_drive(identifier, root / CelebA.base_folder, file, md5)
