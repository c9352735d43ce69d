"""Checkpoints that no run has written, under a right digest all the same."""

import copy

import pytest
import torch

from savi.config.stored import completed
from savi.data import TensorDataModule
from savi.errors import InputError
from savi.experiments.build import build
from savi.experiments.checkpoint import (
    CONFIG_KEY,
    DATA_KEY,
    read_checkpoint,
    save_weights,
    write_checkpoint,
)
from savi.experiments.reload import load

TINY = ("experiment=vae", "data.limit=20", "model.hidden=4", "model.latent_dim=2", "logger=csv")


@pytest.fixture
def contents(config, tmp_path) -> dict:
    """What a checkpoint holds."""
    values = config(*TINY)
    data, module = build(values)
    assert isinstance(data, TensorDataModule)
    save_weights(tmp_path / "a.ckpt", module, data, values, 0, 0)
    return torch.load(tmp_path / "a.ckpt", weights_only=True)


@pytest.fixture
def changed(contents, tmp_path):
    """A checkpoint in which the value at a path of keys is another one, or gone."""

    def change(*keys, to=None, gone=False):
        found = copy.deepcopy(contents)
        node = found
        for key in keys[:-1]:
            node = node[key]
        if gone:
            del node[keys[-1]]
        else:
            node[keys[-1]] = to(node[keys[-1]]) if callable(to) else to
        write_checkpoint(tmp_path / "b.ckpt", found)
        return tmp_path / "b.ckpt"

    return change


WEIGHT = "vae.decoder.head.bias"


@pytest.mark.parametrize(
    ("keys", "to", "told"),
    [
        ((CONFIG_KEY,), {}, "it lacks data"),
        ((CONFIG_KEY,), [], r"it is \[\] and no group of keys"),
        ((CONFIG_KEY, "model"), None, "model is None and no group of keys"),
        ((CONFIG_KEY, "model", "latent_dim"), "2", r"model\.latent_dim is '2'"),
        ((CONFIG_KEY, "model", "kl"), [], r"model\.kl is \[\] and no group"),
        ((CONFIG_KEY, "data", "val_size"), "x" * 99, r"data\.val_size is a str"),
        (("callbacks",), {"CostMonitor": 10**400}, "a number of too many digits"),
        (("callbacks",), {"CostMonitor": "\ud800"}, "half of a surrogate pair"),
        (("state_dict",), 3, "its weights are no mapping"),
        (("state_dict", WEIGHT), lambda w: w * float("nan"), f"'{WEIGHT}' have NaN or infinite"),
        (("state_dict", WEIGHT), lambda w: w.to_sparse(), f"'{WEIGHT}' are no tensor of numbers"),
        (("state_dict", WEIGHT), "w", f"'{WEIGHT}' are no tensor of numbers"),
        (("state_dict", WEIGHT), lambda w: w.long(), "do not fit its config: .* is of type"),
        (("state_dict", WEIGHT), lambda w: w[:3], "do not fit its config: .* size mismatch"),
        (("state_dict", WEIGHT), lambda w: w[:1].expand(10**6, 10**6), "are no tensor of numbers"),
        ((CONFIG_KEY, "model", "hidden"), 10**7, "do not fit its config: .* size mismatch"),
        ((CONFIG_KEY, "model", "depth"), 10**9, "set it to at most 1000"),
        (("hyper_parameters",), None, "cannot be built: hyper_parameters is None"),
        (("hyper_parameters", "data_shape"), "abc", r"hyper_parameters\.data_shape is 'abc'"),
        ((DATA_KEY, "units"), {}, "preprocessing .* is not a run's: it lacks units.divisor"),
        ((DATA_KEY, "units", "scale"), lambda s: -s, "units.scale cannot be that of data of shape"),
        ((DATA_KEY, "shape"), [2, 0], "shape cannot be that of data of shape"),
        ((DATA_KEY, "partition", "ends"), {"val": "x"}, r"partition\.ends is"),
    ],
)  # fmt: skip
def test_what_no_run_has_written_is_refused_in_a_sentence(keys, to, told, changed):
    path = changed(*keys, to=to)
    with pytest.raises(InputError, match=told) as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("group", ["model", "trainer", "logger"])
def test_a_config_without_a_group(group, changed):
    with pytest.raises(InputError, match=f"it lacks {group}"):
        read_checkpoint(changed(CONFIG_KEY, group, gone=True))


def test_a_config_of_an_earlier_version_meant_the_defaults(contents, changed):
    path = changed(CONFIG_KEY, "hypergradient", gone=True)
    config = completed(read_checkpoint(path)[CONFIG_KEY])
    assert config["hypergradient"]["tune"] == []
    assert config["model"] == contents[CONFIG_KEY]["model"]
    assert load(path).vae.latent_dim == 2
