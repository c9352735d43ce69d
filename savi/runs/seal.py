"""A digest inside a checkpoint, so that it moves with it and cannot be that of another."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import BinaryIO

#: How a zip archive, as torch writes it, ends: this signature, 16 bytes, the length of a comment.
_END, _END_LENGTH = b"PK\x05\x06", 22

#: The comment of a sealed archive: this word and the SHA-256 of all that comes before it.
_WORD = b"savi sha256 "
_SEAL_LENGTH = len(_WORD) + 64


def seal(path: Path) -> None:
    """Append the digest of a zip archive to it, as its comment, which readers pass over."""
    with path.open("r+b") as file:
        file.seek(-2, 2)
        file.write(struct.pack("<H", _SEAL_LENGTH))
        end = file.tell()
        file.write(_WORD + _digest(file, end))


def is_damaged(path: Path) -> bool:
    """Whether a file was sealed and is no longer what was sealed, or is a part of an archive.

    An archive that was never sealed, as earlier versions wrote them, is taken as it is.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        begins_as_archive = file.read(2) == _END[:2]
        tail = _tail(file, size, _SEAL_LENGTH)
        if tail.startswith(_WORD):
            return tail[len(_WORD) :] != _digest(file, size - _SEAL_LENGTH)
        end = _tail(file, size, _END_LENGTH)
        ends_as_archive = end.startswith(_END) and end.endswith(b"\0\0")
    return begins_as_archive and not ends_as_archive


def _tail(file: BinaryIO, size: int, length: int) -> bytes:
    file.seek(max(0, size - length))
    return file.read()


def _digest(file: BinaryIO, length: int) -> bytes:
    """The hexadecimal SHA-256 of the first bytes of a file, which is left at their end."""
    file.seek(0)
    found = hashlib.sha256()
    while length > 0:
        part = file.read(min(length, 1 << 20))
        if not part:
            break
        found.update(part)
        length -= len(part)
    return found.hexdigest().encode()
