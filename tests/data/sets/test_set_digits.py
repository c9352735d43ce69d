import torch

from savi.data import DATASETS


def test_digits():
    raw = DATASETS["digits"]()
    raw.check("digits")
    assert raw.train.values.shape == (1797, 1, 8, 8)
    assert raw.train.values.dtype == torch.uint8
    assert raw.levels == 17
    assert raw.train.values.max() == 16
    assert raw.train.labels.unique().tolist() == list(range(10))
    assert raw.test is None
