import math

import pytest
import torch

from savi.data.randomness import generator
from savi.data.units import Units

SOURCE = generator("test")
VALUES = torch.tensor([[1.0, 500.0, 7.0], [3.0, -100.0, 7.0], [2.0, 200.0, 7.0]]).double()


def fit(values: torch.Tensor, scale: str, **settings) -> Units:
    options = {"dequantise": True, "centre": True} | settings
    return Units.fit(values, options.pop("levels", None), scale=scale, **options)


def test_none_leaves_values_as_they_are():
    plain = fit(VALUES, "none")
    assert plain.scale.tolist() == [1.0]
    assert plain.log_scale == 0.0
    assert not plain.scaled


def test_global_is_one_number_and_gives_unit_variance_on_average():
    units = fit(VALUES, "global")
    x = units(VALUES, SOURCE).double()
    assert units.scale.shape == (1,)
    assert float(x.var(0, correction=0).mean()) == pytest.approx(1.0, rel=1e-6)
    assert units.variance == pytest.approx(1.0)
    assert units.log_scale == pytest.approx(3 * math.log(float(units.scale)))


def test_per_feature_gives_unit_variance_in_every_column_that_varies():
    units = fit(VALUES, "per_feature")
    x = units(VALUES, SOURCE).double()
    torch.testing.assert_close(
        x.var(0, correction=0), torch.tensor([1.0, 1.0, 0.0]).double(), rtol=1e-6, atol=1e-6
    )
    assert units.scale[2] == 1.0
    assert units.variance == pytest.approx(2 / 3)
    assert units.log_scale == pytest.approx(float(units.scale.log().sum()))


@pytest.mark.parametrize("scale", ["global", "per_feature"])
def test_a_constant_column_is_no_spread_after_rounding(scale):
    units = fit(torch.full((1001, 2), 0.1).double() + 1e5, scale)
    assert (units.scale == 1).all()


@pytest.mark.parametrize("scale", ["none", "global", "per_feature"])
@pytest.mark.parametrize("centre", [True, False])
def test_it_is_undone(scale, centre):
    units = fit(VALUES, scale, centre=centre)
    x = units(VALUES, SOURCE)
    assert x.dtype == torch.float32
    torch.testing.assert_close(units.restored(x), VALUES, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(units.seen(VALUES), x, rtol=1e-5, atol=1e-5)


def test_without_a_centre_the_scale_is_about_zero():
    units = fit(VALUES + 1e4, "global", centre=False)
    assert units(VALUES + 1e4, SOURCE).abs().max() < 2


def test_pixels_are_scaled_after_dequantisation_and_bits_stay_those_of_the_pixels():
    values = torch.randint(0, 17, (500, 4), generator=generator("pixels")).to(torch.uint8)
    plain, scaled = (fit(values, name, levels=17) for name in ("none", "global"))
    same = (plain(values, generator("a")), scaled(values, generator("a")))
    torch.testing.assert_close(same[0] / float(scaled.scale), same[1])
    # The same density has a larger value by 1/scale in larger units.
    assert scaled.log_levels == pytest.approx(math.log(17) + math.log(float(scaled.scale)))


def test_a_log_density_in_the_datas_units_is_that_of_x_less_the_log_scale():
    values = torch.randn(200, 3, generator=generator("normal")).double() * 40 + 3
    units = fit(values, "per_feature")
    x = units(values, SOURCE).double()
    of_x = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    own = torch.distributions.Normal(units.centre, units.scale).log_prob(values).sum(1)
    torch.testing.assert_close(of_x - units.log_scale, own, rtol=1e-6, atol=1e-5)


def test_double_precision():
    units = fit(VALUES, "global", dtype=torch.float64)
    assert units(VALUES, SOURCE).dtype == units.mean.dtype == torch.float64
    torch.testing.assert_close(units.restored(units(VALUES, SOURCE)), VALUES, rtol=1e-14, atol=0)
