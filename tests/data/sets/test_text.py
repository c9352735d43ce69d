"""Lines of text, and the vocabulary that their training split has."""

from pathlib import Path

import pytest
import torch

from savi.data import TensorDataModule
from savi.data.sets.text import text
from savi.data.vocabulary import END, UNKNOWN, FileWords, Vocabulary
from savi.errors import InputError

PLAIN = {"dequantise": False, "centre": False}


def data_of(path: Path, **options) -> TensorDataModule:
    made = TensorDataModule("text", path=str(path), options={"length": 6} | options, **PLAIN)
    made.setup()
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    lines = [f"the {'very ' * (n % 4)}word{n} is here" for n in range(60)]
    made = tmp_path / "lines.txt"
    made.write_text("\n".join(["", *lines, "   "]), encoding="utf-8")
    return made


def test_the_vocabulary_is_that_of_the_training_split(file: Path):
    data = data_of(file)
    vocabulary = data.preprocessing.vocabulary
    assert vocabulary is not None
    assert vocabulary.words[:2] == (END, UNKNOWN)
    assert data.levels == len(vocabulary.words)
    numbers = {
        split: (data.split(split) * (data.levels - 1)).round().int() for split in ("train", "test")
    }
    seen = " ".join(vocabulary.decode(numbers["train"])).split()
    assert set(vocabulary.words[2:]) == set(seen) - {UNKNOWN}
    assert UNKNOWN not in seen
    assert UNKNOWN in " ".join(vocabulary.decode(numbers["test"])).split()
    assert data.padded
    assert data.preprocessing.sequences


def test_lines_are_cut_padded_and_turned_back(file: Path):
    raw = text(file, length=5)
    assert raw.words is not None
    vocabulary = Vocabulary.fit(raw.train.values, raw.words)
    rows = vocabulary.encode(["the word1 is here", "the very very very word3 is here", "zebra"], 5)
    assert rows.tolist()[2][1:] == [0, -1, -1, -1]
    assert vocabulary.decode(rows) == ["the word1 is here", "the very very very word3", UNKNOWN]
    own = vocabulary.renumbered(raw.train.values, raw.words)
    lines = [line for line in file.read_text().splitlines() if line.split()]
    assert torch.equal(own, vocabulary.encode(lines, 5))


def test_the_most_frequent_words_are_kept():
    values = torch.tensor([[2, 3, 0], [3, 4, 0], [3, 5, -1]], dtype=torch.int32)
    known = FileWords((END, UNKNOWN, "b", "c", "d", "a"), 4)
    assert Vocabulary.fit(values, known).words == (END, UNKNOWN, "c", "a")


def test_a_line_stays_in_its_split_when_others_come(file: Path, tmp_path: Path):
    before = text(file).train.hashes
    more = tmp_path / "more.txt"
    more.write_text("a new line\n" + file.read_text())
    assert torch.equal(text(more).train.hashes[1:], before)
    assert torch.equal(text(file, length=3).train.hashes, before)


def test_a_checkpoint_keeps_its_words(file: Path, tmp_path: Path):
    data, more = data_of(file), tmp_path / "more.txt"
    more.write_text("entirely new words\n" * 40 + file.read_text())
    again = TensorDataModule("text", path=str(more), options={"length": 6}, **PLAIN)
    again.load_state_dict(data.state_dict())
    again.setup()
    assert again.preprocessing.vocabulary == data.preprocessing.vocabulary
    assert not again.known
    assert int((again.split("train") * (again.levels - 1)).round().max()) < data.levels


def test_a_folder_has_a_file_for_each_split(tmp_path: Path):
    for split, line in (("train", "a b"), ("val", "a c"), ("test", "b a")):
        (tmp_path / f"{split}.txt").write_text(f"{line}\n" * 3)
    raw = text(tmp_path)
    assert set(raw.splits) == {"train", "val", "test"}
    data = data_of(tmp_path)
    assert data.preprocessing.vocabulary == Vocabulary((END, UNKNOWN, "a", "b"))
    (tmp_path / "train.txt").unlink()
    with pytest.raises(InputError, match=r"has no train.txt: add it"):
        text(tmp_path)


def test_what_is_no_text_is_refused(tmp_path: Path):
    file = tmp_path / "file"
    for content, said in ((b"\xff\xfe\x00", "cannot be read as text"), (b"\0ab", "is no text"),
                          (b" \n\n", "has no words")):  # fmt: skip
        file.write_bytes(content)
        with pytest.raises(InputError, match=said):
            text(file)
    file.write_text("a b")
    for option in ("length", "vocabulary"):
        with pytest.raises(InputError, match=f"data.options.{option} is 0: set a whole number"):
            text(file, **{option: 0})
