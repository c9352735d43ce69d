import zipfile
from io import BytesIO

import pytest
import torch
from torchvision.transforms.functional import to_pil_image

from savi.data import DATASETS, TensorDataModule
from savi.errors import InputError

PARTITION = {"000001.jpg": 0, "000002.jpg": 2, "000003.jpg": 1, "000004.jpg": 0}


def face(number: int) -> bytes:
    """A grey image whose border, which the crop removes, is white."""
    image = torch.full((3, 218, 178), 255, dtype=torch.uint8)
    image[:, 35:183, 15:163] = 50 * number
    stream = BytesIO()
    to_pil_image(image).save(stream, "jpeg", quality=100)
    return stream.getvalue()


@pytest.fixture(params=["zip", "folder"])
def folder(request, tmp_path):
    folder = tmp_path / "celeba"
    folder.mkdir()
    lines = [f"{name} {part}" for name, part in PARTITION.items()]
    (folder / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    faces = {name: face(number) for number, name in enumerate(PARTITION, start=1)}
    if request.param == "zip":
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            for name, content in faces.items():
                archive.writestr(f"img_align_celeba/{name}", content)
    else:
        (folder / "img_align_celeba").mkdir()
        for name, content in faces.items():
            (folder / "img_align_celeba" / name).write_bytes(content)
    return folder


def test_faces_are_cropped_reduced_and_split_as_published(folder):
    raw = DATASETS["celeba"](folder)
    raw.check("celeba")
    expected = {"train": [50, 200], "val": [150], "test": [100]}
    for name, greys in expected.items():
        values = raw.splits[name].values
        assert values.shape == (len(greys), 3, 64, 64)
        assert values.dtype == torch.uint8
        for image, grey in zip(values, greys, strict=True):
            assert (image[:, 4:-4, 4:-4].int() - grey).abs().max() <= 2
            assert image.int().max() < 225  # the border is white
    assert raw.train.labels is None


def test_the_tensors_are_kept_beside_the_images(folder, monkeypatch):
    first = DATASETS["celeba"](folder.parent)
    with monkeypatch.context() as patch:
        patch.setattr("savi.data.sets.celeba.decode", None)
        again = DATASETS["celeba"](folder.parent)
    for name in ("train", "val", "test"):
        assert torch.equal(first.splits[name].values, again.splits[name].values)


def test_val_size_takes_nothing(folder):
    data = TensorDataModule("celeba", path=str(folder), val_size=0)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [2, 1, 1]


def test_an_image_that_is_missing(folder):
    with (folder / "list_eval_partition.txt").open("a") as lines:
        lines.write("000005.jpg 0\n")
    with pytest.raises(InputError, match=r"'celeba' has damaged or missing files .*000005\.jpg"):
        DATASETS["celeba"](folder)
    assert not (folder / "celeba_64x64.pt").exists()
