"""Data sets that their authors publish as files: find them, or download them."""

import os
import pickle
import socket
import tempfile
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from savi.errors import InputError

# Torchvision's root, under the current folder.
ROOT = Path("data")

# A server that has been silent for so many seconds will not answer.
_TIMEOUT = 30.0

_PACKED = (".gz", ".zip")

# What the readers of images, archives and arrays raise for a damaged file.
_DAMAGE = (
    OSError, EOFError, ValueError, LookupError, RuntimeError, TypeError, OverflowError, MemoryError,
    zlib.error, zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """The files of a published data set, by their names as published.

    One that ends in ``.gz`` or ``.zip`` may be there unpacked instead, under its name without that
    ending. ``download`` fetches them into a folder that stands for torchvision's root, under which
    they are in ``folder``; they may also be installed ``elsewhere``.
    """

    name: str
    files: tuple[str, ...]
    download: Callable[[Path], object]
    folder: str = ""
    elsewhere: tuple[Path, ...] = ()

    @contextmanager
    def opened(self, path: Path | None) -> Iterator[Path]:
        """The folder that holds all files, to be read within the context.

        With a path, it or torchvision's layout below it, and never the network. Without, the
        default root or ``elsewhere``; if they are in neither, they are downloaded.

        Raises:
            InputError: for files that are not under the path, that cannot be downloaded, or that
                prove damaged while they are read; it says which files to put where.
        """
        folder = self._find(path)
        try:
            yield folder
        except _DAMAGE as error:
            raise InputError(
                f"data set '{self.name}' has damaged or missing files in {folder} "
                f"({_brief(error)}): put the published {', '.join(self.files)} there instead"
            ) from error

    def locate(self, folder: Path, file: str) -> Path:
        """The file as published if it is there, else its unpacked form.

        The published form comes first because it cannot be half unpacked.
        """
        packed = folder / file
        if packed.exists() or packed.suffix not in _PACKED:
            return packed
        return packed.with_suffix("")

    def _find(self, path: Path | None) -> Path:
        home = ROOT / self.folder
        for folder in [path, path / self.folder] if path else [home, *self.elsewhere]:
            if all(self.locate(folder, file).exists() for file in self.files):
                return folder
        files = ", ".join(self.files)
        if path is not None:
            raise InputError(
                f"data set '{self.name}' is not in data.path '{path}': put {files} there"
            )
        try:
            self._fetch()
        except Exception as error:  # urllib, ssl, http and gdown each raise their own
            raise InputError(
                f"data set '{self.name}' is not in {home} and could not be downloaded "
                f"({_brief(error)}): put {files} in {home.resolve()}, or set data.path to the "
                "folder that holds them"
            ) from error
        return home

    def _fetch(self) -> None:
        """Download beside the root, and move into place what is complete."""
        ROOT.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix="download-", dir=ROOT) as staging, _timeout():
                self.download(Path(staging))
                for file in sorted(Path(staging).rglob("*")):
                    if file.is_file():
                        target = ROOT / file.relative_to(staging)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        os.replace(file, target)
        finally:
            if not any(ROOT.iterdir()):
                ROOT.rmdir()


@contextmanager
def _timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _brief(error: Exception) -> str:
    """The first sentence of an error's message, on one line."""
    message = " ".join(str(error).split()).split(". ")[0]
    return textwrap.shorten(message or type(error).__name__, 200)
