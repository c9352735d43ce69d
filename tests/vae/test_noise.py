"""The noise of inner objectives."""

import pytest
import torch
from linear_gaussian import randn

from savi.vae.noise import antithetic_noise, common_noise, fresh_noise, orthogonal_noise

LIKE = torch.zeros(4, 3, dtype=torch.float64)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("draw", [antithetic_noise, orthogonal_noise])
@pytest.mark.parametrize("samples", [1, 2, 5, 6, 7, 13])
def test_samples_come_in_pairs(draw, samples: int):
    noise = draw(samples, LIKE, seeded())
    assert noise.shape == (samples, 4, 3)
    assert noise.dtype == torch.float64
    pairs = samples // 2
    first, second = noise[:pairs], noise[samples - pairs :]
    assert torch.equal(first, -second)


def test_antithetic_samples_are_standard_normal():
    noise = antithetic_noise(20_000, LIKE, seeded()).flatten(0, 1)
    torch.testing.assert_close(torch.cov(noise.mT), torch.eye(3).double(), rtol=0, atol=0.03)
    assert float((noise**4).mean()) == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("samples", [6, 12, 30])
def test_whole_orthogonal_groups_have_exact_second_moments(samples: int):
    noise = orthogonal_noise(samples, LIKE, seeded())
    moments = torch.einsum("sbi,sbj->bij", noise, noise) / samples
    torch.testing.assert_close(moments, torch.eye(3).double().expand(4, -1, -1))


def test_partial_orthogonal_groups_are_unbiased():
    many = torch.zeros(20_000, 3, dtype=torch.float64)
    for samples in (2, 4):
        noise = orthogonal_noise(samples, many, seeded())
        torch.testing.assert_close(
            noise.square().sum(dim=-1), torch.full((samples, 20_000), 3.0).double()
        )
        moments = torch.einsum("sbi,sbj->ij", noise, noise) / (samples * 20_000)
        torch.testing.assert_close(moments, torch.eye(3).double(), rtol=0, atol=0.03)
    first, second = orthogonal_noise(4, LIKE, seeded())[:2]
    torch.testing.assert_close(
        (first * second).sum(dim=-1), torch.zeros(4).double(), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("schedule", [common_noise, fresh_noise])
def test_a_schedule_repeats_itself(schedule):
    noise, again = schedule(4, LIKE, seeded()), schedule(4, LIKE, seeded())
    other = schedule(4, LIKE, torch.Generator().manual_seed(4))
    for step in (0, 1, 7, 0):
        assert torch.equal(noise(step), noise(step))
        assert torch.equal(noise(step), again(step))
        assert not torch.equal(noise(step), other(step))


def test_common_noise_is_shared_by_all_steps_and_fresh_noise_by_none():
    common, fresh = common_noise(4, LIKE), fresh_noise(4, LIKE)
    assert torch.equal(common(0), common(9))
    draws = [fresh(step) for step in range(4)]
    assert len({float(draw[0, 0, 0]) for draw in draws}) == 4


def test_the_global_seed_decides_where_there_is_no_generator():
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append((common_noise(4, LIKE)(0), fresh_noise(4, LIKE)(1), randn(2)))
    for one, other in zip(*draws, strict=True):
        assert torch.equal(one, other)
