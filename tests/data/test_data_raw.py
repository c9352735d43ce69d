import math

import pytest
import torch

from savi.data import Examples, RawData
from savi.errors import InputError

floats = torch.rand(4, 3)
images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)


def with_value(values: torch.Tensor, value: float) -> torch.Tensor:
    changed = values.clone()
    changed[2, 1] = value
    return changed


def test_good_data_pass():
    RawData(Examples(floats, torch.arange(4)), test=Examples(floats[:1])).check("mine")
    RawData(Examples(images + 255), levels=256).check("mine")
    assert RawData(Examples(images), levels=2).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (RawData(Examples(floats[0])), r"train split has shape \[3\]"),
        (RawData(Examples(floats[:0])), r"train split has shape \[0, 3\]: give at least one"),
        (RawData(Examples(floats[:, :0])), r"train split has shape \[4, 0\]"),
        (RawData(Examples(floats), test=Examples(floats[:0])), r"test split has shape \[0, 3\]"),
        (
            RawData(Examples(floats), test=Examples(floats[:, :2])),
            r"test split has examples of shape \[2\] and the train split of shape \[3\]",
        ),
        (RawData(Examples(floats, torch.arange(3))), "4 examples and labels of shape"),
        (
            RawData(Examples(floats), val=Examples(with_value(floats, float("nan")))),
            "'mine': the val split has NaN or infinite values, first in example 2",
        ),
        (RawData(Examples(with_value(floats, float("-inf")))), "train split has NaN or infinite"),
        (RawData(Examples(images)), "train split is continuous and has type torch.uint8"),
        (RawData(Examples(floats), levels=256), "has 256 levels and type torch.float32"),
        (RawData(Examples(images + 17), levels=17), "holds the value 17 and is said to have 17"),
        (RawData(Examples(images), levels=1), "is said to have 1 levels: give 2 to 256"),
        (RawData(Examples(images), levels=1000), "is said to have 1000 levels: give 2 to 256"),
    ],
)
def test_each_fault_is_told_with_its_split(raw, message):
    with pytest.raises(InputError, match=message):
        raw.check("mine")


class TestLayout:
    def images(self, *shape: int) -> RawData:
        values = torch.arange(math.prod((6, *shape))).view(6, *shape).float()
        return RawData(Examples(values, torch.arange(6)), test=Examples(values[:2]))

    @pytest.mark.parametrize("shape", [(28, 28, 3), (8, 6, 1), (5, 9, 4), (4, 4, 3)])
    def test_channels_last_are_refused_or_moved(self, shape):
        raw = self.images(*shape)
        with pytest.raises(InputError, match=r"'mine' has .*×.*set data\.layout=channels_last"):
            raw.arranged("mine", "channels_first")
        moved = raw.arranged("mine", "channels_last")
        height, width, channels = shape
        assert moved.shape == (channels, height, width)
        assert moved.test is not None
        for before, after in ((raw.train, moved.train), (raw.test, moved.test)):
            assert torch.equal(after.values, before.values.permute(0, 3, 1, 2))
            assert after.values.is_contiguous()
        assert torch.equal(moved.train.labels, torch.arange(6))

    @pytest.mark.parametrize(
        "shape", [(3, 28, 28), (1, 8, 8), (4, 5, 9), (3, 3, 3), (1, 1, 1), (16, 7, 7), (28,)]
    )
    def test_channels_first_and_vectors_stay(self, shape):
        raw = self.images(*shape)
        assert raw.arranged("mine", "channels_first") is raw

    def test_channels_first_are_not_moved(self):
        with pytest.raises(InputError, match=r"set data\.layout=channels_first"):
            self.images(3, 28, 28).arranged("mine", "channels_last")

    def test_images_without_an_axis_for_channels_have_no_order(self):
        for shape in ((1, 28, 28), (12,)):
            raw = self.images(*shape)
            assert raw.arranged("mine", "channels_last") is raw
