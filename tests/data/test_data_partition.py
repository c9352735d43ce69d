import torch

from savi.data.partition import Partition, fingerprint, occurrences, places, row_hashes


def rows(size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, 3, generator=torch.Generator().manual_seed(seed))


def split_of(partition: Partition, values: torch.Tensor) -> dict[int, str]:
    """The split of each example by its hash."""
    hashes = row_hashes(values)
    parts = partition.members(hashes, ["val", "test"])
    return {int(hashes[i]): name for name, chosen in parts.items() for i in chosen}


def chosen(values: torch.Tensor, held_out: int = 10, seed: int = 0) -> Partition:
    return Partition.choose(row_hashes(values), ["val", "test"], held_out, seed)


class TestHashes:
    def test_they_belong_to_the_values_and_not_to_the_place(self):
        values = rows(50)
        order = torch.randperm(50)
        assert torch.equal(row_hashes(values)[order], row_hashes(values[order]))
        assert len(row_hashes(values).unique()) == 50
        changed = values.clone()
        changed[3, 1] += 1e-3
        assert (row_hashes(changed) != row_hashes(values)).nonzero().tolist() == [[3]]

    def test_equal_numbers_have_equal_hashes_whatever_their_type(self):
        values = rows(20)
        assert torch.equal(row_hashes(values), row_hashes(values.double()))
        zero = torch.zeros(1, 3)
        assert torch.equal(row_hashes(zero), row_hashes(-zero))

    def test_pixels(self):
        pixels = torch.arange(60, dtype=torch.uint8).view(5, 1, 3, 4)
        assert len(row_hashes(pixels).unique()) == 5
        assert torch.equal(row_hashes(pixels), row_hashes(pixels.flatten(1)))

    def test_a_fingerprint_is_of_the_rows_of_each_split_in_any_order(self):
        a, b = row_hashes(rows(10)), row_hashes(rows(5, seed=1))
        word = fingerprint({"train": a, "test": b})
        assert word == fingerprint({"test": b.flip(0), "train": a.flip(0)})
        for other in ({"train": b, "test": a}, {"train": a, "test": b[1:]}, {"train": a}):
            assert fingerprint(other) != word


def test_places_are_uniform_and_differ_by_purpose_and_seed():
    hashes = torch.arange(20_000)
    place = places(hashes, "split", 0)
    assert ((place >= 0) & (place < 1)).all()
    counts = torch.histc(place.float(), 20, 0, 1)
    # chi-squared with 19 degrees of freedom: mean 19, standard deviation 6.2
    assert ((counts - 1000) ** 2 / 1000).sum() < 19 + 5 * 6.2
    for other in (places(hashes, "limit", 0), places(hashes, "split", 1)):
        correlation = torch.corrcoef(torch.stack([place, other]))[0, 1]
        assert abs(correlation) < 5 / 20_000**0.5


class TestPartition:
    def test_sizes_are_exact_where_all_examples_differ(self):
        parts = chosen(rows(100)).members(row_hashes(rows(100)), ["val", "test"])
        assert {name: len(part) for name, part in parts.items()} == {
            "val": 10, "test": 10, "train": 80,
        }  # fmt: skip

    def test_rows_stay_when_others_come_or_the_order_changes(self):
        values = rows(100)
        partition = chosen(values)
        before = split_of(partition, values)
        grown = torch.cat([rows(70, seed=5), values.flip(0), rows(30, seed=6)])
        after = split_of(partition, grown)
        assert before == {key: after[key] for key in before}
        assert split_of(chosen(values.flip(0)), values) == before

    def test_equal_examples_share_a_split(self):
        values = rows(50).repeat(3, 1)
        partition = chosen(values)
        parts = partition.members(row_hashes(values), ["val", "test"])
        assert {name: len(part) for name, part in parts.items()} == {
            "val": 12, "test": 12, "train": 126,
        }  # fmt: skip
        hashes = row_hashes(values)
        sets = [set(hashes[part].tolist()) for part in parts.values()]
        assert sum(map(len, sets)) == len(set.union(*sets)) == 50

    def test_one_group_is_left_to_each_split(self):
        values = torch.tensor([[0.0], [1.0], [2.0]]).repeat_interleave(torch.tensor([1, 1, 98]), 0)
        for seed in range(8):
            parts = chosen(values, 40, seed).members(row_hashes(values), ["val", "test"])
            assert sorted(map(len, parts.values())) == [1, 1, 98]

    def test_where_too_few_differ_equal_ones_are_parted(self):
        values = torch.ones(100, 2)
        partition = chosen(values)
        assert not partition.together
        parts = partition.members(row_hashes(values), ["val", "test"])
        assert {name: len(part) for name, part in parts.items()} == {
            "val": 10, "test": 10, "train": 80,
        }  # fmt: skip

    def test_a_published_split_leaves_its_range_to_train(self):
        values = rows(100)
        partition = chosen(values)
        parts = partition.members(row_hashes(values), ["test"])
        both = partition.members(row_hashes(values), ["val", "test"])
        assert parts["test"].tolist() == both["test"].tolist()
        assert sorted(parts["train"].tolist()) == sorted(
            both["train"].tolist() + both["val"].tolist()
        )


def test_occurrences():
    assert occurrences(torch.tensor([7, 3, 7, 7, 3, 1])).tolist() == [0, 0, 1, 2, 1, 0]
