"""A user's own arrays, from a NumPy file."""

import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import torch

from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS
from savi.errors import InputError, unknown_option

#: So many times smaller a compressed file can be at most (deflate, Technical Details of zlib).
_RATIO = 1032

_SPLITS = ("train", "val", "test")
_KEYS = (*_SPLITS, *(f"{split}_labels" for split in _SPLITS))


@DATASETS.register("arrays")
def arrays(path: Path) -> RawData:
    """Read a ``.npy`` or ``.npz`` file.

    Arrays are [N, D], [N, H, W] or [N, C, H, W] ([N, H, W, C] with ``data.layout``).
    Floating-point numbers are continuous data and uint8 are 256 grey levels. A ``.npz`` file has
    the key ``train`` and may have ``val``, ``test``, ``train_labels``, ``val_labels`` and
    ``test_labels``. Splits that are not there are taken from the training examples; so they are
    from the only array of a file.

    Raises:
        InputError: for another kind of file, a damaged one, unknown keys, or other types.
    """
    found = _contents(path)
    splits = {}
    for split in filter(found.__contains__, _SPLITS):
        given = found.get(f"{split}_labels")
        labels = None if given is None else _labels(path, split, given)
        splits[split] = Examples(_values(path, split, found[split]), labels)
    kinds = {examples.values.dtype for examples in splits.values()}
    if len(kinds) > 1:
        raise InputError(f"'{path}' mixes uint8 with floating-point splits: save all as one type")
    levels = 256 if kinds == {torch.uint8} else None
    return RawData(splits["train"], splits.get("val"), splits.get("test"), levels=levels)


def _contents(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by their keys; the only one is ``train``."""
    if path.suffix not in (".npy", ".npz") or not path.is_file():
        raise InputError(f"data.path '{path}' is no .npy or .npz file: save the arrays as one")
    try:
        found = _load(path)
    except MemoryError as error:
        raise InputError(f"data.path '{path}' does not fit into memory: save fewer rows") from error
    except Exception as error:  # NumPy, zipfile and zlib fail on foreign bytes in many ways.
        raise InputError(
            f"data.path '{path}' cannot be read as arrays of numbers: save it again with numpy.save"
        ) from error
    for key in found:
        if key not in _KEYS:
            raise unknown_option(f"array in '{path}'", key, _KEYS)
    for needed in ("train", *(key.removesuffix("_labels") for key in found)):
        if needed not in found:
            raise InputError(f"'{path}' has no array '{needed}': add it")
    return found


def _load(path: Path) -> dict[str, np.ndarray]:
    """Read them all; a header that claims more than there is costs no memory.

    Raises:
        Exception: for a damaged file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for name in names:
                member = archive.getinfo(name)
                if member.file_size > _RATIO * (member.compress_size + _RATIO):
                    raise ValueError(f"{name} claims more than its bytes can hold")
                with archive.open(member) as stream:
                    _check_size(stream, member.file_size)
            loaded = np.load(path, allow_pickle=False)
            keys = [name.removesuffix(".npy") for name in names]
            only = len(keys) == 1
            return {"train" if only else key: loaded[key] for key in keys}
    with path.open("rb") as stream:
        _check_size(stream, os.fstat(stream.fileno()).st_size)
        stream.seek(0)
        return {"train": np.load(stream, allow_pickle=False)}


def _check_size(stream: IO[bytes], size: int) -> None:
    """See that an array in a stream of so many bytes has as many as its header claims.

    Raises:
        ValueError: if it has not, or has a header of another kind.
    """
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, _, dtype = read[version](stream)
    if stream.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{size} bytes are not what its header claims")


def _values(path: Path, split: str, array: np.ndarray) -> torch.Tensor:
    if array.ndim > 4:
        raise InputError(
            f"'{split}' in '{path}' has {array.ndim} axes: save vectors [N, D], or images "
            "[N, H, W] or [N, C, H, W]"
        )
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(
            f"'{split}' in '{path}' has type {array.dtype}: save it as floating-point numbers, "
            "or as uint8 if it holds 256 grey levels"
        )
    # Wide types stay wide until the mean is subtracted: a large one would take their digits.
    wide = np.float64 if array.dtype.itemsize > 4 else np.float32
    with np.errstate(over="ignore"):  # what is too large for float64 is reported as infinite
        values = torch.from_numpy(array.astype(np.uint8 if array.dtype == np.uint8 else wide))
    return values.unsqueeze(1) if values.ndim == 3 else values


def _labels(path: Path, split: str, array: np.ndarray) -> torch.Tensor:
    if array.dtype.kind not in "biu":
        raise InputError(
            f"'{split}_labels' in '{path}' has type {array.dtype}: save integers, one an example"
        )
    return torch.from_numpy(array.astype(np.int64))
