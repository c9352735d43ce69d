import zipfile
from io import BytesIO

import pytest
import torch
from torchvision.transforms.functional import to_pil_image

from savi.data import DATASETS
from savi.errors import InputError


def drawing(rows: int) -> bytes:
    """White paper with its first rows inked."""
    paper = torch.full((1, 105, 105), 255, dtype=torch.uint8)
    paper[:, :rows] = 0
    stream = BytesIO()
    to_pil_image(paper).convert("1").save(stream, "png")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two characters of one alphabet for training, one of another for testing."""
    folder = tmp_path / "omniglot-py"
    folder.mkdir()
    with zipfile.ZipFile(folder / "images_background.zip", "w") as archive:
        archive.writestr("images_background/Greek/character02/2_01.png", drawing(30))
        archive.writestr("images_background/Greek/character01/1_01.png", drawing(0))
        archive.writestr("images_background/Greek/character01/1_02.png", drawing(105))
    with zipfile.ZipFile(folder / "images_evaluation.zip", "w") as archive:
        archive.writestr("images_evaluation/Runic/character01/3_01.png", drawing(15))
    return folder


def test_drawings_are_bright_on_dark_and_reduced(folder):
    raw = DATASETS["omniglot"](folder.parent)
    raw.check("omniglot")
    assert raw.train.values.shape == (3, 1, 28, 28)
    assert raw.train.labels.tolist() == [0, 0, 1]
    assert raw.train.values[0].max() == 0
    assert raw.train.values[1].min() == 255
    # 30 of 105 rows are 8 of 28
    assert (raw.train.values[2, 0, :, 14] > 127).tolist() == [True] * 8 + [False] * 20
    assert raw.test.values.shape == (1, 1, 28, 28)
    assert raw.levels == 256


def test_the_tensors_are_kept_beside_the_archives(folder, monkeypatch):
    first = DATASETS["omniglot"](folder)
    assert (folder / "omniglot_28x28.pt").exists()
    with monkeypatch.context() as patch:
        patch.setattr("savi.data.sets.omniglot.decode", None)
        again = DATASETS["omniglot"](folder)
    assert torch.equal(first.train.values, again.train.values)
    assert torch.equal(first.train.labels, again.train.labels)


def test_a_newer_archive_replaces_the_kept_tensors(folder):
    DATASETS["omniglot"](folder)
    with zipfile.ZipFile(folder / "images_evaluation.zip", "w") as archive:
        archive.writestr("images_evaluation/Runic/character01/3_01.png", drawing(105))
    assert DATASETS["omniglot"](folder).test.values.min() == 255


def test_a_damaged_archive(folder):
    archive = folder / "images_background.zip"
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"'omniglot' has damaged .*put the published images_ba"):
        DATASETS["omniglot"](folder)
    assert not (folder / "omniglot_28x28.pt").exists()
