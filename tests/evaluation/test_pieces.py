"""Noise that belongs to the example."""

import pytest
import torch

from savi.evaluation.pieces import ExampleStreams


def spawn(examples: int, dtype: torch.dtype = torch.float64) -> ExampleStreams:
    return ExampleStreams.spawn(
        examples, torch.Generator().manual_seed(0), torch.zeros((), dtype=dtype)
    )


def draws(streams: ExampleStreams) -> list[torch.Tensor]:
    return [streams.normal(3, 20), streams.uniform(3), streams.normal(3, 20)]


def test_an_example_sees_the_same_noise_in_any_batch():
    whole, few, pieces = draws(spawn(40)), draws(spawn(7)), spawn(40)
    for one, other in zip(whole, few, strict=True):
        assert torch.equal(one[:, :7], other)
    for one, other in zip(whole, draws(pieces[5:9]), strict=True):
        assert torch.equal(one[:, 5:9], other)


def test_the_streams_differ_and_have_the_right_moments():
    normal, uniform = spawn(50).normal(40, 30), spawn(50).uniform(2000)
    assert normal.flatten().unique().numel() == normal.numel()
    assert float(normal.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(normal.std()) == pytest.approx(1.0, abs=0.02)
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    assert 0.0 <= uniform.min() < uniform.max() < 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_noise_has_the_dtype_of_the_model(dtype: torch.dtype):
    assert {draw.dtype for draw in draws(spawn(2, dtype))} == {dtype}
