"""Data sets as tensors in memory, and the one data module that serves them in batches.

To add a data set, write a function that returns a `RawData` and register it under a name:

    from savi.data import DATASETS, Examples, RawData

    @DATASETS.register("mine")
    def mine(path: Path, *, size: int = 100) -> RawData:
        images = ...  # uint8 [N, C, H, W]
        return RawData(train=Examples(images), levels=256)

Its parameter `path` is ``data.path`` (leave the parameter out for a set that reads no files), and
its keyword parameters are what users may set in ``data.options``.
"""

from savi.config.data import DataConfig
from savi.data import sets as _sets  # noqa: F401  (registers the data sets that come with savi)
from savi.data.batches import Batch
from savi.data.module import TensorDataModule
from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS
from savi.data.units import covariance_eigenvalues

__all__ = [
    "DATASETS",
    "Batch",
    "DataConfig",
    "Examples",
    "RawData",
    "TensorDataModule",
    "covariance_eigenvalues",
]
