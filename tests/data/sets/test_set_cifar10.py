import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, cifar

from savi.data import DATASETS
from savi.errors import InputError


@pytest.fixture
def folder(tmp_path) -> Path:
    """Batches of two images each: the n-th batch holds the value n, plus 100 in the green plane."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    for number, (file, _) in enumerate([*CIFAR10.train_list, *CIFAR10.test_list]):
        planes = np.full((2, 3, 1024), number, dtype=np.uint8)
        planes[:, 1] += 100
        content = {"data": planes.reshape(2, 3072), "labels": [number, 9]}
        (folder / file).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return folder


def test_batches_are_joined_in_channel_first_order(folder, monkeypatch):
    monkeypatch.setattr(cifar, "check_integrity", lambda file, md5: Path(file).exists())
    elsewhere = folder.rename(folder.with_name("elsewhere"))
    raw = DATASETS["cifar10"](elsewhere)
    raw.check("cifar10")
    assert raw.train.values.shape == (10, 3, 32, 32)
    assert raw.test.values.shape == (2, 3, 32, 32)
    assert raw.train.values[::2, :, 3, 4].tolist() == [[n, 100 + n, n] for n in range(5)]
    assert raw.test.values.float().mean((0, 2, 3)).tolist() == [5, 105, 5]
    assert raw.train.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert raw.train.values.dtype == torch.uint8
    assert raw.levels == 256


def test_files_that_are_not_the_published_ones_are_refused(folder):
    with pytest.raises(InputError, match=r"'cifar10' has damaged or missing files in .*data_batch"):
        DATASETS["cifar10"](folder.parent)
