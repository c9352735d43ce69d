import math

import pytest
import torch

from savi.data.randomness import generator
from savi.data.units import Units, uniform_noise


def source(key: int = 0) -> torch.Generator:
    return generator("test", key)


def all_levels(levels: int, repeats: int = 500) -> torch.Tensor:
    return torch.arange(levels, dtype=torch.uint8).repeat(repeats, 1)


class TestUniformNoise:
    def test_covers_the_unit_interval_evenly(self):
        noise = uniform_noise(torch.Size([1000, 1001]), source())
        assert noise.shape == (1000, 1001)
        assert noise.dtype == torch.float32
        assert noise.min() >= 0
        assert noise.max() < 1
        counts = torch.histc(noise, 64, 0, 1)
        expected = noise.numel() / 64
        # chi-squared with 63 degrees of freedom: mean 63, standard deviation 11
        assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * 11

    def test_the_numbers_of_one_draw_are_uncorrelated(self):
        noise = uniform_noise(torch.Size([100_000, 4]), source()).double()
        correlation = torch.corrcoef(noise.T) - torch.eye(4, dtype=torch.float64)
        assert correlation.abs().max() < 5 / 100_000**0.5

    def test_added_to_a_level_it_is_exact(self):
        noise = uniform_noise(torch.Size([100_000]), source())
        for level in (0, 1, 128, 255):
            total = noise + level
            assert torch.equal(total.double(), noise.double() + level)
            assert torch.equal(total.floor(), torch.full_like(total, level))


class TestUnits:
    @pytest.mark.parametrize("levels", [2, 17, 255, 256])
    def test_dequantised_values_stay_in_their_bin(self, levels):
        values = all_levels(levels)
        units = Units.fit(values, levels, dequantise=True, centre=False)
        x = units(values, source())
        assert torch.equal((x.double() * levels).floor().to(torch.uint8), values)
        assert x.dtype == torch.float32
        assert x.std(0).min() > 0.9 * (1 / 12) ** 0.5 / levels

    @pytest.mark.parametrize("levels", [17, 256])
    def test_without_dequantisation_levels_fill_the_unit_interval(self, levels):
        values = all_levels(levels)
        units = Units.fit(values, levels, dequantise=False, centre=False)
        expected = torch.arange(levels) / (levels - 1)
        assert torch.equal(units(values, source()), expected.expand(500, -1))

    def test_continuous_values_are_only_centred(self):
        values = torch.tensor([[1.0, 5.0], [3.0, -1.0]], dtype=torch.float64)
        units = Units.fit(values, None, dequantise=True, centre=True)
        assert torch.equal(units.mean, torch.tensor([2.0, 2.0]))
        assert torch.equal(units(values, source()), torch.tensor([[-1.0, 3.0], [1.0, -3.0]]))
        assert units.variance == pytest.approx((1 + 9) / 2)

    def test_centring_subtracts_the_mean_after_scaling(self):
        values = torch.tensor([[0, 4], [2, 4]], dtype=torch.uint8)
        units = Units.fit(values, 5, dequantise=False, centre=True)
        assert torch.equal(units(values, source()), torch.tensor([[-0.25, 0.0], [0.25, 0.0]]))

    def test_mean_is_zero_where_nothing_is_centred(self):
        units = Units.fit(all_levels(4), 4, dequantise=True, centre=False)
        assert torch.equal(units.mean, torch.zeros(4))

    def test_mean_and_variance_are_those_of_the_dequantised_values(self):
        values = torch.randint(0, 17, (20_000, 5), generator=source(1)).to(torch.uint8)
        units = Units.fit(values, 17, dequantise=True, centre=True)
        raw = Units.fit(values, 17, dequantise=True, centre=False)(values, source()).double()
        standard_error = (raw.var(0) / len(raw)).sqrt()
        assert ((units.mean - raw.mean(0)).abs() < 5 * standard_error).all()
        assert units.variance == pytest.approx(float(raw.var(0).mean()), rel=0.01)

    def test_variance_in_closed_form(self):
        values = torch.tensor([[0], [2]], dtype=torch.uint8)
        noisy = Units.fit(values, 4, dequantise=True, centre=True)
        assert noisy.mean.item() == (1 + 0.5) / 4
        assert noisy.variance == pytest.approx((1 + 1 / 12) / 16)
        plain = Units.fit(values, 4, dequantise=False, centre=True)
        assert plain.variance == pytest.approx(1 / 9)

    def test_log_levels_only_where_a_density_stands_for_a_probability(self):
        values = all_levels(17)
        assert Units.fit(values, 17, dequantise=True, centre=True).log_levels == math.log(17)
        assert Units.fit(values, 17, dequantise=False, centre=True).log_levels == 0.0
        assert Units.fit(values.float(), None, dequantise=True, centre=True).log_levels == 0.0

    def test_bits_of_a_uniform_density_are_the_bits_of_a_uniform_level(self):
        # p(x) = 1 on [0, 1) gives every one of L levels the probability 1/L
        units = Units.fit(all_levels(16), 16, dequantise=True, centre=True)
        assert (0.0 + units.log_levels) / math.log(2) == pytest.approx(4)
