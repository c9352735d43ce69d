from collections.abc import Callable

import pytest
import torch

from savi.data import DATASETS, Examples, RawData


@pytest.fixture
def datasets(monkeypatch):
    """The registry, with what a test registers forgotten afterwards."""
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS))
    return DATASETS


@pytest.fixture
def levels_set(datasets) -> Callable[..., RawData]:
    """A registered data set of 100 images whose pixels take all 256 levels."""

    @datasets.register("levels")
    def levels() -> RawData:
        values = torch.arange(100 * 256).remainder(256).to(torch.uint8).view(100, 1, 16, 16)
        return RawData(train=Examples(values, torch.arange(100)), levels=256)

    return levels
