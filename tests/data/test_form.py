"""A user's arrays to the model's units and back."""

import numpy as np
import pytest
import torch

from savi.data import TensorDataModule
from savi.data.form import Form
from savi.errors import InputError


def form_of(tmp_path, array, **options) -> tuple[Form, TensorDataModule]:
    np.save(tmp_path / "mine.npy", array)
    data = TensorDataModule("arrays", path=str(tmp_path / "mine.npy"), **options)
    data.setup()
    return Form(data.preprocessing, options.get("layout", "channels_first")), data


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("scale", ["none", "global", "per_feature"])
def test_continuous_data_come_back(tmp_path, scale: str):
    values = 5.0 + 3.0 * np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    form, data = form_of(tmp_path, values, scale=scale)
    x = form.seen(values)
    assert x.mean().abs() < 1.0
    torch.testing.assert_close(form.restored(x), torch.from_numpy(values))
    seen = {tuple(row) for row in x.round(decimals=3).tolist()}
    assert {tuple(row) for row in data.split("test").round(decimals=3).tolist()} <= seen


@pytest.mark.parametrize("dequantise", [True, False])
def test_pixel_levels_come_back(tmp_path, dequantise: bool):
    """Within the noise, by whose mean a level is restored."""
    values = pixels(30, 4, 5)
    form, _ = form_of(tmp_path, values, dequantise=dequantise)
    x = form.seen(values)
    assert torch.equal(form.seen(values), x)
    restored = form.restored(x)
    assert restored.shape == (30, 1, 4, 5)
    off = restored.squeeze(1) - torch.from_numpy(values).float()
    assert off.abs().max() <= 0.5001 * dequantise + 1e-3
    assert off.mean().abs() < 0.05


def test_every_shape_of_an_image_is_the_same_image(tmp_path):
    values = pixels(30, 4, 5)
    form, _ = form_of(tmp_path, values)
    x = form.seen(values)
    for other in (values.reshape(30, 1, 4, 5), values.reshape(30, 20), torch.tensor(values).int()):
        assert torch.equal(form.seen(other), x)


def test_channels_may_come_last(tmp_path):
    values = pixels(30, 4, 5, 3)
    form, _ = form_of(tmp_path, values, layout="channels_last", dequantise=False)
    assert form.shape == (4, 5, 3)
    x = form.seen(values)
    first = np.moveaxis(values, -1, 1).reshape(30, -1)
    assert torch.equal(form.seen(first), x)
    expected = torch.from_numpy(values).float()
    torch.testing.assert_close(form.restored(x), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        (pixels(4, 5), r"shape \[4, 5\]: give \[N, 1, 4, 5\] or \[N, 20\] or \[N, 4, 5\] \(one"),
        (pixels(3, 21), r"shape \[3, 21\]: give \[N, 1, 4, 5\] or \[N, 20\] or \[N, 4, 5\]$"),
        (pixels(0, 4, 5), r"shape \[0, 4, 5\]"),
        (pixels(3, 20).astype(np.float32), r"type torch.float32 .* integers from 0 to 255"),
        (pixels(3, 20).astype(np.int64) + 300, r"from 3\d\d to 5\d\d .* from 0 to 255"),
    ],
)
def test_pixels_unlike_those_of_the_run_are_refused(tmp_path, examples, words: str):
    form, _ = form_of(tmp_path, pixels(30, 4, 5))
    with pytest.raises(InputError, match=words):
        form.seen(examples)


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        (np.ones((2, 6), dtype=np.int64), "type torch.int64 .* floating-point numbers"),
        (np.full((2, 6), np.nan), "NaN or infinite"),
    ],
)
def test_numbers_unlike_those_of_the_run_are_refused(tmp_path, examples, words: str):
    form, _ = form_of(tmp_path, np.random.default_rng(0).normal(size=(40, 6)))
    with pytest.raises(InputError, match=words):
        form.seen(examples)
