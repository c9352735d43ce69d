"""Files that are whole or absent, whatever ends the process that writes them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: How the name of a file begins and ends that is not whole yet.
_BEGIN, _END = ".", ".part"


class NotWritten(OSError):
    """A file could not be written: the disk is full, the folder read-only, ..."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"'{path}' cannot be written: {error.strerror or error}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say which file could not be written.

    Raises:
        NotWritten: in place of the system's error.
    """
    try:
        yield
    except NotWritten:
        raise
    except OSError as error:
        raise NotWritten(path, error) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file under another name in the same folder, and give it its own once it is on disk.

    A reader finds the old file or the new one, never a part of either; so does whoever comes after
    a kill or on a full disk. What is written stands under the name that this yields. The folder is
    made if need be. A device or a pipe holds nothing, and is written as it is.

    Raises:
        NotWritten: if there is no room, or the like.
    """
    with writing(path):
        special = path.exists() and not (path.is_file() or path.is_dir())
    if special:
        with writing(path), _read_by_somebody(path):
            yield path
        return
    part = path.with_name(f"{_BEGIN}{path.name}{_END}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            _to_disk(part)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _to_disk(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a file's text as a whole."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_over(path: Path, text: str) -> None:
    """Replace the text of a small file where it lies if there is no room for another one."""
    try:
        write_text(path, text)
    except NotWritten:
        with writing(path), path.open("r+", encoding="utf-8") as file:
            file.write(text)
            file.truncate()


def copy(source: Path, target: Path) -> None:
    """Copy a file as a whole."""
    with whole(target) as part:
        shutil.copyfile(source, part)


def keep_as(source: Path, target: Path) -> None:
    """Give a file a second name, which stays with it when the first one is given to another."""
    with whole(target) as part:
        part.unlink(missing_ok=True)
        try:
            part.hardlink_to(source)
        except OSError:
            # Not every file system can.
            shutil.copyfile(source, part)


def remove_parts(folder: Path) -> None:
    """Remove what a killed process has left half-written in and below a folder."""
    for part in folder.rglob(f"{_BEGIN}*{_END}"):
        part.unlink(missing_ok=True)


@contextmanager
def _read_by_somebody(path: Path) -> Iterator[None]:
    """Refuse a pipe that nobody reads: whoever opens it to write would wait for ever.

    Raises:
        OSError: if it is one.
    """
    if not path.is_fifo():
        yield
        return
    # Stays open: its reader would otherwise see the end before the beginning.
    handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        yield
    finally:
        os.close(handle)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
