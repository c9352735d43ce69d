import pytest
import torch
from torch.utils.data import SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from savi.data.batches import OrderedBatches, ShuffledBatches


def positions(sampler: ShuffledBatches) -> torch.Tensor:
    return torch.cat([visit.positions[visit.share] for visit in sampler])


def test_every_example_once_and_the_remainder_kept():
    sampler = ShuffledBatches(10, 4, seed=0)
    sizes = [len(visit.positions) for visit in sampler]
    assert sizes == [4, 4, 2]
    assert len(sampler) == 3
    assert sorted(positions(sampler).tolist()) == list(range(10))


def test_order_is_keyed_by_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = ShuffledBatches(50, 8, seed)
        sampler.set_epoch(epoch)
        return positions(sampler).tolist()

    assert order(0, 3) == order(0, 3)
    # the seed and the epoch do not merely add up
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_no_two_visits_share_a_key():
    sampler = ShuffledBatches(10, 2, seed=5)
    keys = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        keys += [visit.key for visit in sampler]
    assert len(set(keys)) == len(keys) == 10


def test_ordered_batches_ascend_at_every_epoch():
    sampler = OrderedBatches(5, 2, seed=0)
    sampler.set_epoch(7)
    assert [visit.positions.tolist() for visit in sampler] == [[0, 1], [2, 3], [4]]
    assert len(sampler) == 3


@pytest.mark.parametrize("kind", [ShuffledBatches, OrderedBatches])
def test_devices_share_every_batch_evenly(kind):
    alone = list(kind(10, 4, seed=0))
    shares = [list(kind(10, 4, seed=0, num_replicas=2, rank=rank)) for rank in range(2)]
    assert [len(share) for share in shares] == [3, 3]
    for whole, *parts in zip(alone, *shares, strict=True):
        # With the same key, and so the same noise, as on one device.
        assert [part.key for part in parts] == [whole.key] * 2
        dealt = [part.positions[part.share] for part in parts]
        assert len(dealt[0]) == len(dealt[1])
        assert torch.equal(torch.stack(dealt, dim=1).flatten(), whole.positions)


def test_an_uneven_epoch_repeats_its_first_examples():
    shares = [ShuffledBatches(11, 6, seed=0, num_replicas=3, rank=rank) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    seen = torch.cat([positions(share) for share in shares])
    assert len(seen) == 12
    assert set(seen.tolist()) == set(range(11))


def test_types_by_which_lightning_leaves_the_samplers_alone():
    assert isinstance(ShuffledBatches(5, 2, seed=0), DistributedSampler)
    assert not isinstance(ShuffledBatches(5, 2, seed=0), SequentialSampler)
    assert isinstance(OrderedBatches(5, 2, seed=0), SequentialSampler)
