from pathlib import Path

import pytest
import torch

from savi.data import DATASETS, Examples, RawData, TensorDataModule
from savi.data.registry import bind
from savi.errors import InputError


def test_the_data_sets_that_come_with_savi():
    assert set(DATASETS) == {
        "arrays",
        "celeba",
        "cifar10",
        "digits",
        "fashion_mnist",
        "kmnist",
        "linear_gaussian",
        "lstm_oracle",
        "mnist",
        "omniglot",
        "svhn",
        "text",
    }


def test_one_small_function_adds_a_data_set(datasets, tmp_path):
    @datasets.register("mine")
    def mine(path: Path, *, size: int = 10) -> RawData:
        assert path == tmp_path
        return RawData(Examples(torch.arange(size * 6).view(size, 2, 3).float()))

    data = TensorDataModule("mine", path=str(tmp_path), options={"size": 20}, val_size=5)
    data.setup()
    assert data.shape == (2, 3)
    assert len(data.split("train")) == 10


def test_binding_loads_nothing(datasets):
    @datasets.register("mine")
    def mine() -> RawData:
        raise AssertionError

    bind("mine")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing",), "unknown data set 'missing': choose one of arrays, celeba, cifar10"),
        (("arrays",), "data set 'arrays' needs data.path"),
        (("arrays", "/no/such/file.npy"), "data.path '/no/such/file.npy' does not exist"),
        (("mnist", "/no/such/folder"), "data.path '/no/such/folder' does not exist"),
        (("digits", "."), "data set 'digits' reads no files: leave data.path at null"),
        (("digits", None, {"size": 3}), "'digits' has no options: remove 'size'"),
        (("mnist", None, {"path": "."}), "'mnist' has no options: remove 'path'"),
        (
            ("linear_gaussian", None, {"size": 3}),
            "unknown data.options of 'linear_gaussian' 'size': choose one of dim, eigenvalues",
        ),
    ],
)
def test_settings_that_do_not_fit(arguments, message):
    with pytest.raises(InputError, match=message):
        bind(*arguments)
