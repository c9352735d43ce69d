"""Files that are whole or absent."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from savi.runs.whole import NotWritten, copy, keep_as, remove_parts, whole, write_text


def test_a_file_is_replaced_as_a_whole(tmp_path):
    file = tmp_path / "below" / "a.txt"
    write_text(file, "one")
    with whole(file) as part:
        part.write_text("tw")
        assert file.read_text() == "one"
        part.write_text("two")
    assert file.read_text() == "two"
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_written_leaves_the_old_one(error, tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "one")

    def fail():
        with whole(file) as part:
            part.write_text("tw")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert file.read_text() == "one"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    if not (full := type(tmp_path)("/dev/full")).exists():
        pytest.skip("no /dev/full")
    file = tmp_path / "a.txt"
    write_text(file, "one")

    def fill():
        with whole(file) as part:
            part.symlink_to(full)
            part.write_text("two")

    with pytest.raises(OSError, match="No space left"):
        fill()
    assert file.read_text() == "one"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_kill_has_left_is_removed(tmp_path):
    write_text(tmp_path / "figures" / "a.png", "one")
    with whole(tmp_path / "figures" / "b.png") as part:
        part.write_text("tw")
        copy(part, tmp_path / "figures" / ".c.png.part")
    remove_parts(tmp_path)
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["a.png", "b.png"]


def test_a_device_is_written_and_stays_one():
    write_text(Path("/dev/null"), "nothing")
    assert Path("/dev/null").is_char_device()


def test_a_second_name_stays_with_what_it_was_given_to(tmp_path):
    write_text(tmp_path / "best", "old")
    keep_as(tmp_path / "best", tmp_path / "before")
    write_text(tmp_path / "best", "new")
    keep_as(tmp_path / "best", tmp_path / "other")
    assert [(tmp_path / name).read_text() for name in ("before", "best", "other")] == [
        "old", "new", "new",
    ]  # fmt: skip


def test_a_pipe_is_written_if_somebody_reads_it(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(NotWritten, match="pipe' cannot be written: No such device or address"):
        write_text(pipe, "nobody")
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        while not read.running():
            time.sleep(0.01)
        time.sleep(0.1)  # Until the reader has opened it.
        write_text(pipe, "somebody")
        assert read.result(timeout=10) == "somebody"
    assert pipe.is_fifo()
