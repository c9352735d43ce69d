import torch

from savi.data.batches import DequantisedExamples, FixedExamples, Visit
from savi.data.units import Units

values = torch.arange(60, dtype=torch.uint8).view(20, 3)
positions = torch.tensor([4, 0, 19])


def test_fixed_examples_are_gathered():
    x = torch.rand(20, 3)
    batch = FixedExamples(x)[Visit(positions, (0,))]
    assert torch.equal(batch.x, x[positions])
    assert torch.equal(batch.index, positions)


def test_dequantised_examples_depend_on_the_key_alone():
    units = Units.fit(values, 64, dequantise=True, centre=False)
    examples = DequantisedExamples(values, units, seed=0)
    first, again, other = (examples[Visit(positions, key)] for key in ((1, 2), (1, 2), (1, 3)))
    assert torch.equal(first.x, again.x)
    assert not torch.eq(first.x, other.x).any()
    for batch in (first, other):
        assert torch.equal((batch.x * 64).floor(), values[positions].float())
        assert torch.equal(batch.index, positions)


def test_fixed_noise_of_the_whole_split_depends_on_the_seed():
    units = Units.fit(values, 64, dequantise=True, centre=False)
    first, again, other = (DequantisedExamples(values, units, seed).x for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal((first * 64).floor(), values.float())
