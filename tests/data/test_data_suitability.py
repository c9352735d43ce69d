"""What is said of data that do not go with a Gaussian density, and of what is left alone."""

import pytest
import torch

from savi.data import Examples, RawData, TensorDataModule
from savi.data.randomness import generator
from savi.data.suitability import few_values, scale_fault, unusual_scale


def normal(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=generator("normal"))


@pytest.fixture
def module(datasets):
    def build(values: torch.Tensor, levels: int | None = None, **settings) -> TensorDataModule:
        datasets.register("given")(lambda: RawData(Examples(values), levels=levels))
        data = TensorDataModule("given", **settings)
        del datasets._entries["given"]
        data.setup()
        return data

    return build


class TestFewValues:
    @pytest.mark.parametrize("centre", [True, False])
    def test_zeros_and_ones(self, module, centre):
        line = few_values(module((normal(60, 5) > 0).float(), centre=centre), True)
        assert line is not None
        assert "take only the values 0 and 1" in line
        assert "grows without a bound as γ falls to model.gamma.floor" in line
        assert "not to be compared with that of a Bernoulli" in line

    def test_a_fixed_density_does_not_diverge(self, module):
        line = few_values(module((normal(60, 5) > 0).float()), False)
        assert line is not None
        assert "without a bound" not in line

    def test_a_handful(self, module):
        line = few_values(module(normal(200, 5).clamp(-2, 2).round() / 7), True)
        assert line is not None
        assert "take only 5 values" in line

    def test_pixels_without_noise(self, module):
        pixels = (normal(60, 5) > 0).to(torch.uint8)
        assert few_values(module(pixels, 2, dequantise=False), True) is not None
        assert few_values(module(pixels, 2, dequantise=True), True) is None

    @pytest.mark.parametrize(
        "values", [normal(200, 5), normal(200, 5).clamp(min=0), normal(8, 2), torch.ones(50, 3)]
    )
    def test_nothing_is_said_of_others(self, module, values):
        assert few_values(module(values), True) is None


class TestScale:
    def test_a_common_unit(self, module):
        line = scale_fault(module(1000 * normal(100, 4)))
        assert line is not None
        assert line.endswith("set data.scale=global")

    def test_an_offset_that_is_not_subtracted(self, module):
        assert "set data.scale=global" in str(
            scale_fault(module(normal(99, 4) + 1e4, centre=False))
        )
        assert scale_fault(module(normal(99, 4) + 1e4)) is None

    @pytest.mark.parametrize("scale", ["none", "global"])
    def test_columns_of_mixed_units(self, module, scale):
        values = normal(100, 40) * torch.tensor([1.0] * 39 + [1e5])
        # An example of 40 has its variance in one column: √40 of the scale, times its own reach.
        line = scale_fault(module(values * 3, scale=scale))
        assert (line is None) == (scale == "global")
        assert line is None or line.endswith("set data.scale=per_feature")

    def test_an_outlier_after_scaling(self, module):
        values = normal(4000, 2)
        values[1000] = 1e4
        for scale in ("per_feature", "global"):
            line = scale_fault(module(values, scale=scale, val_size=1))
            assert line is not None
            assert "after data.scale" in line
            assert line.endswith("remove or clip this outlier")
        assert scale_fault(module(values, val_size=1)) is not None

    @pytest.mark.parametrize("rows", [1, 5])
    def test_an_outlier_is_not_taken_for_another_unit(self, module, rows):
        values = normal(400, 6)
        values[100 : 100 + rows, 3] = 1e6
        line = scale_fault(module(values, val_size=1))
        assert line is not None
        assert "in spread" not in line
        assert line.endswith("remove or clip this outlier, or set data.scale=per_feature")

    @pytest.mark.parametrize(
        ("factor", "said"),
        [(1e3, "set data.scale=global"), (1e-3, "set data.scale=global"), (3.0, None)],
    )
    def test_what_is_said_before_a_training(self, module, factor, said):
        line = unusual_scale(module(factor * normal(100, 4)))
        assert (line is None) == (said is None)
        assert line is None or line.endswith(said)
        assert unusual_scale(module(factor * normal(100, 4), scale="global")) is None
        assert (
            unusual_scale(module((factor * normal(99, 4)).abs().clamp(0, 255).byte(), 256)) is None
        )

    @pytest.mark.parametrize("scale", ["none", "global", "per_feature"])
    def test_nothing_is_said_of_data_of_the_usual_size(self, module, scale):
        assert scale_fault(module(3 * normal(100, 4), scale=scale)) is None
        pixels = (100 * normal(100, 4)).clamp(0, 255).to(torch.uint8)
        assert scale_fault(module(pixels, 256, scale=scale)) is None
