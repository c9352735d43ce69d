import pytest
import torch

from savi.data import Examples, RawData
from savi.data.raw import train_val_test
from savi.errors import InputError


def numbered(size: int, start: int = 0) -> Examples:
    """Examples whose value and label are their number."""
    numbers = torch.arange(start, start + size)
    return Examples(numbers.float().unsqueeze(1), numbers)


def numbers(examples: Examples) -> list[int]:
    assert examples.labels is not None
    assert torch.equal(examples.values.squeeze(1), examples.labels.float())
    return examples.labels.tolist()


@pytest.mark.parametrize(
    ("val_size", "held_out"), [(0.1, 10), (0.004, 1), (7, 7), (7.0, 7), (1, 1)]
)
def test_val_and_test_come_from_train_where_there_is_none(val_size, held_out):
    splits = train_val_test(RawData(numbered(100)), val_size, None, seed=0)
    parts = [numbers(splits[name]) for name in ("train", "val", "test")]
    assert [len(part) for part in parts] == [100 - 2 * held_out, held_out, held_out]
    assert sorted(number for part in parts for number in part) == list(range(100))
    assert all(part == sorted(part) for part in parts)


def test_published_test_split_is_kept():
    raw = RawData(numbered(100), test=numbered(30, start=500))
    splits = train_val_test(raw, 0.2, None, seed=0)
    assert numbers(splits["test"]) == list(range(500, 530))
    assert sorted(numbers(splits["train"]) + numbers(splits["val"])) == list(range(100))
    assert len(splits["val"]) == 20


def test_published_val_split_leaves_train_whole():
    raw = RawData(numbered(10), val=numbered(3, start=50), test=numbered(4, start=60))
    splits = train_val_test(raw, 0, None, seed=0)
    assert numbers(splits["train"]) == list(range(10))
    assert numbers(splits["val"]) == [50, 51, 52]


def test_the_seed_fixes_the_splits():
    raw = RawData(numbered(100))
    first, again, other = (train_val_test(raw, 0.2, 15, seed) for seed in (1, 1, 2))
    for name in ("train", "val", "test"):
        assert numbers(first[name]) == numbers(again[name])
        assert numbers(first[name]) != numbers(other[name])


def test_limit_thins_every_split_and_moves_nothing_between_them():
    raw = RawData(numbered(100), test=numbered(50, start=500))
    full = train_val_test(raw, 0.2, None, seed=0)
    limited = train_val_test(raw, 0.2, 15, seed=0)
    for name, examples in limited.items():
        assert len(examples) == 15
        assert set(numbers(examples)) < set(numbers(full[name]))
    # at random, for published orders are seldom without meaning
    assert numbers(limited["test"]) != list(range(500, 515))


def test_limit_above_the_size_changes_nothing():
    splits = train_val_test(RawData(numbered(100)), 0.2, 60, seed=0)
    assert [len(splits[name]) for name in ("train", "val", "test")] == [60, 20, 20]


@pytest.mark.parametrize("val_size", [0, -1, 1.5, float("nan"), float("inf")])
def test_val_size_that_is_neither_fraction_nor_count(val_size):
    with pytest.raises(InputError, match="neither a fraction between 0 and 1 nor a whole number"):
        train_val_test(RawData(numbered(100)), val_size, None, seed=0)


@pytest.mark.parametrize("val_size", [0.5, 50, 200])
def test_val_size_that_leaves_nothing_to_train_on(val_size):
    with pytest.raises(InputError, match="leaves none to train on: set a smaller one"):
        train_val_test(RawData(numbered(100)), val_size, None, seed=0)
