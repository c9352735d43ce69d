"""Omniglot: 32,460 drawings of characters from 50 alphabets, reduced to 28x28 pixels."""

import zipfile
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import Omniglot
from torchvision.datasets.utils import download_url
from torchvision.transforms.functional import resize

from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS
from savi.data.sets.images import cached, decode
from savi.data.sets.published import Published

_SPLITS = {"train": "images_background.zip", "test": "images_evaluation.zip"}


@DATASETS.register("omniglot")
def omniglot(path: Path | None = None) -> RawData:
    """Characters, bright on dark (Lake, Salakhutdinov and Tenenbaum 2015).

    The background set is for training and the evaluation set, of other alphabets, for testing.
    Labels number the characters of each.
    """
    published = Published(
        "omniglot", files=tuple(_SPLITS.values()), download=_download, folder=Omniglot.folder
    )
    with published.opened(path) as folder:
        archives = {split: folder / file for split, file in _SPLITS.items()}
        splits = cached(
            folder / "omniglot_28x28.pt",
            archives.values(),
            lambda: {split: _examples(archive) for split, archive in archives.items()},
        )
        return RawData(train=splits["train"], test=splits["test"], levels=256)


def _examples(archive: Path) -> Examples:
    with zipfile.ZipFile(archive) as drawings:
        names = sorted(name for name in drawings.namelist() if name.endswith(".png"))
        characters = [Path(name).parent for name in names]
        number = {character: label for label, character in enumerate(sorted(set(characters)))}
        images = decode(map(drawings.read, names), "L", _bright_on_dark)
    return Examples(images, torch.tensor([number[character] for character in characters]))


def _bright_on_dark(drawings: Tensor) -> Tensor:
    return resize(255 - drawings, [28, 28], antialias=True)


def _download(root: Path) -> None:
    for file in _SPLITS.values():
        md5 = Omniglot.zips_md5[file.removesuffix(".zip")]
        download_url(f"{Omniglot.download_url_prefix}/{file}", root / Omniglot.folder, md5=md5)
