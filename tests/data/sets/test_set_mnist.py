import gzip
import math
import struct
from pathlib import Path

import pytest
import torch

from savi.data import DATASETS, TensorDataModule
from savi.data.sets import mnist
from savi.data.sets.mnist import read_idx
from savi.errors import InputError

SIZES = {"train": 30, "t10k": 10}


def idx(*shape: int) -> bytes:
    values = bytes(i % 256 for i in range(math.prod(shape)))
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values


def write(folder: Path, *, packed: bool) -> Path:
    """The four files that MNIST consists of, with few and small images."""
    folder.mkdir(parents=True)
    for prefix, size in SIZES.items():
        for file, content in (
            (f"{prefix}-images-idx3-ubyte", idx(size, 4, 5)),
            (f"{prefix}-labels-idx1-ubyte", idx(size)),
        ):
            if packed:
                (folder / f"{file}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / file).write_bytes(content)
    return folder


def check(raw) -> None:
    raw.check("mnist")
    for examples, size in ((raw.train, 30), (raw.test, 10)):
        expected = torch.arange(size * 20).remainder(256).to(torch.uint8).view(size, 1, 4, 5)
        assert torch.equal(examples.values, expected)
        assert torch.equal(examples.labels, torch.arange(size))
    assert raw.levels == 256


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["mnist", "kmnist", "fashion_mnist"])
def test_a_folder_of_idx_files(tmp_path, name, packed):
    check(DATASETS[name](write(tmp_path / "files", packed=packed)))


@pytest.mark.parametrize(
    ("name", "folder"),
    [("mnist", "MNIST"), ("kmnist", "KMNIST"), ("fashion_mnist", "FashionMNIST")],
)
def test_torchvisions_layout(tmp_path, monkeypatch, name, folder):
    write(tmp_path / "data" / folder / "raw", packed=False)
    check(DATASETS[name](tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    check(DATASETS[name]())


def test_the_packed_file_comes_before_one_that_may_be_half_unpacked(tmp_path):
    folder = write(tmp_path / "files", packed=True)
    (folder / "train-images-idx3-ubyte").write_bytes(b"half")
    check(DATASETS["mnist"](folder))


def test_debians_folder_serves_fashion_mnist_only(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "DEBIAN", write(tmp_path / "debian", packed=True))
    monkeypatch.chdir(tmp_path)
    check(DATASETS["fashion_mnist"]())


@pytest.mark.skipif(not mnist.DEBIAN.exists(), reason="dataset-fashion-mnist is not installed")
def test_the_published_fashion_mnist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = TensorDataModule("fashion_mnist", val_size=10_000)
    data.setup()
    assert data.shape == (1, 28, 28)
    sizes = [len(data.labels(name)) for name in ("train", "val", "test")]
    assert sizes == [50_000, 10_000, 10_000]
    assert data.labels("test").bincount().tolist() == [1000] * 10
    # the published mean of all training pixels is 0.2860 in units of 255
    assert data.mean.mean().item() == pytest.approx((0.2860 * 255 + 0.5) / 256, abs=1e-3)


def test_files_that_are_missing_from_the_path(tmp_path):
    folder = write(tmp_path / "files", packed=True)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"'mnist' is not in data.path .*: put train-images-idx3"):
        DATASETS["mnist"](folder)


@pytest.mark.parametrize("packed", [True, False])
def test_files_that_end_too_soon(tmp_path, packed):
    folder = write(tmp_path / "files", packed=packed)
    file = folder / ("train-images-idx3-ubyte" + ".gz" * packed)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"'mnist' has damaged or missing files in .* put the pub"):
        DATASETS["mnist"](folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an idx file of unsigned bytes"),
        (bytes([0, 0, 13, 1]) + idx(4)[4:], "is not an idx file of unsigned bytes"),
        (idx(3, 4)[:9], "ends within its header"),
        (idx(3, 4)[:-1], "holds 11 values, not 12"),
        (idx(3, 4) + b"1", "holds 13 values, not 12"),
    ],
)
def test_idx_files_that_are_not(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "file")


def test_a_claim_of_more_than_there_is_costs_no_memory(tmp_path):
    lying = idx(3, 4)[:4] + b"\xff" * 8 + idx(3, 4)[12:]
    (tmp_path / "file.gz").write_bytes(gzip.compress(lying))
    with pytest.raises(ValueError, match="holds 12 values, not 18446744065119617025"):
        read_idx(tmp_path / "file.gz")
    # A small file that unpacks to a large one is read no further than it says.
    (tmp_path / "file.gz").write_bytes(gzip.compress(idx(3, 4) + bytes(3 << 20)))
    with pytest.raises(ValueError, match=r"holds at least 1048\d+ values, not 12"):
        read_idx(tmp_path / "file.gz")


def test_images_with_other_axes(tmp_path):
    folder = write(tmp_path / "files", packed=False)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(20))
    with pytest.raises(InputError, match="train-images-idx3-ubyte has 1 axes, not 3"):
        DATASETS["mnist"](folder)
