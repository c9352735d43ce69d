import numpy as np
import pytest
import scipy.io
from torchvision.datasets import svhn

from savi.data import DATASETS
from savi.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Images in the published order [H, W, C, N]; the class 10 stands for the digit 0."""
    for split, size in (("train", 4), ("test", 2)):
        images = np.zeros((32, 32, 3, size), dtype=np.uint8)
        images[1, 2, :, 1] = [10, 20, 30]
        labels = np.array([[1], [10], [3], [4]][:size], dtype=np.uint8)
        scipy.io.savemat(tmp_path / f"{split}_32x32.mat", {"X": images, "y": labels})
    return tmp_path


def test_images_are_channel_first(folder, monkeypatch):
    monkeypatch.setattr(svhn, "check_integrity", lambda file, md5: True)
    raw = DATASETS["svhn"](folder)
    raw.check("svhn")
    assert raw.train.values.shape == (4, 3, 32, 32)
    assert raw.test.values.shape == (2, 3, 32, 32)
    assert raw.train.values[1, :, 1, 2].tolist() == [10, 20, 30]
    assert raw.train.values.sum() == 60
    assert raw.train.labels.tolist() == [1, 0, 3, 4]


def test_files_that_are_not_the_published_ones_are_refused(folder):
    with pytest.raises(InputError, match="'svhn' has damaged or missing files"):
        DATASETS["svhn"](folder)
