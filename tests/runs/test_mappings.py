"""Files that somebody has torn, replaced or made up."""

import os

import pytest

from savi.runs.mappings import Unreadable, read_mapping

LAUGHS = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 40))]
)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", '{"a": ' + 10_000 * "[" + 10_000 * "]" + "}", "nested too deeply"),
        ("a.json", '{"a": ' + 500 * "[" + 500 * "]" + "}", "nested too deeply, or repeats"),
        ("a.json", f'{{"a": {"9" * 400}}}', "a number of too many digits"),
        ("a.json", f'{{"a": {"9" * 5000}}}', "cannot be read: Exceeds the limit"),
        ("a.json", '{"a": {"b": "\\ud800"}}', "half of a surrogate pair"),
        ("a.json", '{"\\ud800": 1}', "half of a surrogate pair"),
        ("a.yaml", 'a: ["\\ud800"]\n', "half of a surrogate pair"),
        ("a.json", "[1]", "holds no mapping"),
        ("a.json", '{"a": 1', "cannot be read: Expecting"),
        ("a.yaml", "a: " + 10_000 * "[" + 10_000 * "]" + "\n", "nested too deeply"),
        ("a.yaml", LAUGHS + "\n", "nested too deeply, or repeats itself"),
        ("a.yaml", "a: &a {b: *a}\n", "nested too deeply, or repeats itself"),
        ("a.yaml", f"a: 0x{'f' * 5000}\n", "a number of too many digits"),
        ("a.yaml", "a: 1\nb: 2", "is cut short"),
        ("a.yaml", "a: !!bool maybe\n", "cannot be read"),
        ("a.yaml", "a: !!python/object:os.system {}\n", "cannot be read"),
        ("a.yaml", "a: " + "b" * (1 << 20) + "\n", "more than 1,048,576 bytes"),
    ],
)
def test_files_that_hold_no_mapping_to_use(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(Unreadable, match=told):
        read_mapping(tmp_path / name)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(Unreadable, match="is no file"):
        read_mapping(tmp_path / "a.yaml")


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Unreadable, match="more than 67,108,864 bytes"):
        read_mapping(tmp_path / "a.json")


def test_what_runs_write_is_read(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &x [1]\nb: *x\n1: {c: null}\n")
    assert read_mapping(tmp_path / "a.yaml") == {"a": [1], "b": [1], "1": {"c": None}}
    (tmp_path / "a.json").write_text('{"a": NaN, "b": -Infinity}')
    assert list(read_mapping(tmp_path / "a.json")) == ["a", "b"]
