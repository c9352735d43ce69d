import zipfile

import numpy as np
import pytest
import torch

from savi.data import DATASETS, TensorDataModule
from savi.errors import InputError

arrays = DATASETS["arrays"]


@pytest.fixture
def file(tmp_path):
    """Save arrays and return the file."""

    def save(*array: np.ndarray, **named: np.ndarray):
        path = tmp_path / ("data.npz" if named else "data.npy")
        if named:
            np.savez(path, **named)
        else:
            np.save(path, *array)
        return path

    return save


floats = np.random.default_rng(0).normal(size=(20, 3))
greys = np.arange(20 * 6, dtype=np.uint8).reshape(20, 2, 3)


def test_one_array_is_split(file):
    data = TensorDataModule("arrays", path=str(file(floats)), val_size=4, centre=False)
    rows = torch.cat([data.split(name) for name in ("train", "val", "test")])
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [12, 4, 4]
    assert torch.equal(rows.sort(0).values, torch.from_numpy(floats).float().sort(0).values)
    assert data.levels is None


@pytest.mark.parametrize(
    ("kind", "read"),
    [("<f2", "float32"), ("<f4", "float32"), (">f8", "float64"), ("longdouble", "float64")],
)
def test_every_floating_point_type_becomes_float32(file, kind, read):
    path = file(floats.astype(kind))
    raw = arrays(path)
    assert raw.train.values.dtype == getattr(torch, read)
    np.testing.assert_array_equal(raw.train.values, floats.astype(kind).astype(read))
    data = TensorDataModule("arrays", path=str(path), val_size=4, centre=False)
    rows = torch.cat([data.split(name) for name in ("train", "val", "test")])
    assert rows.dtype == torch.float32
    expected = torch.from_numpy(floats.astype(kind).astype(np.float32))
    assert torch.equal(rows.sort(0).values, expected.sort(0).values)


def test_a_large_offset_takes_no_digits(file):
    offset = floats + 1e7
    data = TensorDataModule("arrays", path=str(file(offset)), val_size=4)
    x = data.split("train").double() + data.units.centre - 1e7
    nearest = torch.cdist(x, torch.from_numpy(floats)).min(1).values
    assert nearest.max() < 1e-6


def test_bytes_are_grey_levels_and_get_a_channel(file):
    raw = arrays(file(greys))
    assert raw.levels == 256
    assert raw.shape == (1, 2, 3)
    np.testing.assert_array_equal(raw.train.values.squeeze(1), greys)


def test_all_keys(file):
    path = file(
        train=floats,
        val=floats[:5],
        test=floats[:4],
        train_labels=np.arange(20, dtype=np.uint8),
        test_labels=np.arange(4),
    )
    raw = arrays(path)
    raw.check("arrays")
    assert [len(raw.train), len(raw.val), len(raw.test)] == [20, 5, 4]
    assert raw.train.labels.tolist() == list(range(20))
    assert raw.train.labels.dtype == torch.int64
    assert raw.val.labels is None
    assert raw.test.labels.tolist() == [0, 1, 2, 3]


def test_the_only_array_may_have_any_name(file):
    assert len(arrays(file(images=floats)).train) == 20


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"train": floats, "valid": floats}, "unknown array in .* 'valid': choose one of test,"),
        ({"val": floats, "test": floats}, "has no array 'train': add it"),
        ({"train": floats, "test_labels": np.arange(3)}, "has no array 'test': add it"),
        ({"train": floats, "test": greys}, "mixes uint8 with floating-point splits"),
        ({"train": np.arange(6).reshape(2, 3)}, "'train' in .* has type int64: save it as"),
        ({"train": floats, "train_labels": floats[:, 0]}, "'train_labels' in .* has type float64"),
        ({"train": np.array([{}])}, "cannot be read as arrays of numbers"),
    ],
)
def test_arrays_that_cannot_be_used(file, named, message):
    with pytest.raises(InputError, match=message):
        arrays(file(**named))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"train": floats, "test": np.full((2, 3), np.nan)}, "the test split has NaN or inf"),
        ({"train": np.full((9, 3), 1e300)}, "the train split has NaN or infinite values"),
        ({"train": floats, "test": floats[:, :2]}, r"the test split has examples of shape \[2\]"),
        ({"train": floats[:, 0]}, r"the train split has shape \[20\]"),
        ({"train": floats[:0]}, r"the train split has shape \[0, 3\]"),
        ({"train": floats, "train_labels": np.arange(3)}, "20 examples and labels of shape"),
    ],
)
def test_values_and_shapes_that_cannot_be_used(file, named, message):
    with pytest.raises(InputError, match=message):
        TensorDataModule("arrays", path=str(file(**named))).setup()


@pytest.mark.parametrize("name", ["data.npy", "data.npz"])
@pytest.mark.parametrize("cut", [0, 40])
def test_damaged_files(tmp_path, file, name, cut):
    whole = file(floats) if name.endswith("npy") else file(train=floats)
    damaged = tmp_path / f"damaged{whole.suffix}"
    damaged.write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(InputError, match="cannot be read as arrays of numbers"):
        arrays(damaged)


def test_other_files_and_folders(tmp_path):
    (tmp_path / "data.csv").write_text("1,2")
    (tmp_path / "folder.npy").mkdir()
    for path in (tmp_path / "data.csv", tmp_path / "folder.npy", tmp_path):
        with pytest.raises(InputError, match=r"is no \.npy or \.npz file"):
            arrays(path)


def header(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        header("(1000000000000, 6)") + bytes(96),
        header("(4, 7)") + bytes(96),
        header("(4,)", "|O") + bytes(32),
        header("(9000000000000000000,)", "<U0"),
        header("(" * 90),
        b"",
        b"\x93NUMPY",
        bytes(1000),
    ],
)
def test_a_file_that_is_not_what_its_header_claims(tmp_path, content):
    """Nothing is set aside for rows that are not there."""
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read as arrays of numbers|has type <U0"):
        arrays(tmp_path / "x.npy")


def test_packed_arrays_that_are_damaged(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, train=np.random.default_rng(0).normal(size=(50, 8)))
    whole = path.read_bytes()
    for content in (whole[:-30], whole[:200] + bytes(100) + whole[300:], whole[:50]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as arrays of numbers"):
            arrays(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.npy", header("(1000000000000, 6)") + bytes(96))
    with pytest.raises(InputError, match="cannot be read as arrays of numbers"):
        arrays(path)


def test_more_axes_than_an_image_has(file):
    with pytest.raises(InputError, match=r"'train' in .* has 5 axes: save vectors \[N, D\], or im"):
        arrays(file(np.zeros((4, 1, 2, 2, 2))))


@pytest.mark.parametrize("path", ["", "a" * 5000, "~nobody-of-that-name/x"])
def test_paths_that_no_file_can_have(path):
    with pytest.raises(InputError, match=r"data\.path '.*"):
        TensorDataModule("arrays", path=path).setup()
