"""What a run takes from its data, and other data seen through it."""

import io

import numpy as np
import pytest
import torch

from savi.data import TensorDataModule
from savi.data.partition import row_hashes
from savi.errors import InputError

SPLITS = ("train", "val", "test")


@pytest.fixture
def module(tmp_path):
    """A data module over arrays that are saved first."""
    count = iter(range(100))

    def build(state=None, **arrays) -> TensorDataModule:
        settings = {key: arrays.pop(key) for key in ("scale", "limit", "seed") if key in arrays}
        path = tmp_path / f"{next(count)}.npz"
        np.savez(path, **arrays)
        data = TensorDataModule("arrays", path=str(path), val_size=0.2, **settings)
        if state is not None:
            data.load_state_dict(state)
        data.setup()
        return data

    return build


def rows(size: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(size, 4)) + 2.0


def state_of(data: TensorDataModule) -> dict:
    """The state as it comes back from a file."""
    file = io.BytesIO()
    torch.save(data.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("scale", ["none", "global", "per_feature"])
def test_the_same_file_looks_the_same_to_the_last_bit(module, scale):
    own = module(train=rows(), scale=scale)
    again = module(state_of(own), train=rows(), scale=scale)
    assert again.known
    assert (again.variance, again.log_levels) == (own.variance, own.log_levels)
    for name in SPLITS:
        assert torch.equal(again.split(name), own.split(name))


def test_noise_and_levels_come_back(module):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 4), dtype=np.uint8)
    own = module(train=pixels)
    again = module(state_of(own), train=pixels)
    for name in SPLITS:
        assert torch.equal(again.split(name), own.split(name))
    assert again.log_levels == own.log_levels > 0


def test_other_data_are_not_centred_or_scaled_by_themselves(module):
    own = module(train=rows(), scale="per_feature")
    moved = module(state_of(own), train=rows() + 100.0, scale="per_feature")
    assert not moved.known
    assert torch.equal(moved.mean, own.mean)
    everything = torch.cat([moved.split(name) for name in SPLITS]).sort(0).values
    expected = torch.cat([own.split(name) for name in SPLITS]).double()
    expected = (expected + 100.0 / own.units.scale).sort(0).values
    torch.testing.assert_close(everything.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_grown_and_reordered_file_moves_no_example(module):
    own = module(train=rows())
    more = np.concatenate([rows(40, seed=3), rows()[::-1]])
    grown = module(state_of(own), train=more)
    assert not grown.known
    for name in SPLITS:
        before, after = set(own.hashes[name].tolist()), set(grown.hashes[name].tolist())
        assert before < after
    assert grown.count_trained("test") == grown.count_trained("val") == 0
    assert grown.count_trained("train") == len(own.split("train"))


def test_examples_that_float32_takes_for_equal_are_told_apart(module):
    """Beside a large offset all differences lie in digits that only float64 holds."""
    far = rows(200) + 1e10
    own = module(train=far)
    assert own.count_trained("test") == own.count_trained("val") == 0
    assert own.count_trained("train") == len(own.split("train"))
    again = module(state_of(own), train=far[::-1].copy())
    assert again.known
    assert not module(state_of(own), train=far + 100.0).known
    grown = module(state_of(own), train=np.concatenate([rows(40, seed=3) + 1e10, far]))
    assert grown.count_trained("test") == 0
    assert grown.count_trained("train") == len(own.split("train"))
    # The examples themselves, as another split.
    seen = set(own.hashes["train"].tolist())
    expected = sum(h in seen for h in row_hashes(torch.tensor(far[:50]), precise=True).tolist())
    assert 0 < expected < 50
    assert module(state_of(own), train=far, test=far[:50]).count_trained("test") == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_another_precision_of_the_same_file_is_known(module, dtype):
    own = module(train=rows() + 1e4)
    again = module(state_of(own), train=(rows() + 1e4).astype(dtype))
    assert again.known
    assert again.count_trained("test") == 0


def test_a_reordered_file_is_known(module):
    own = module(train=rows())
    assert module(state_of(own), train=rows()[::-1].copy()).known


def test_examples_that_were_trained_on_are_counted(module):
    own = module(train=rows())
    trained = own.units.restored(own.split("train")).float().numpy()
    test = np.concatenate([rows().astype(np.float32), rows(5, seed=9).astype(np.float32)])
    other = module(state_of(own), train=rows(8, seed=8).astype(np.float32), test=test)
    assert other.count_trained("test") == len(trained) == 18
    assert other.count_trained("train") == 0


def test_only_those_left_by_a_limit_were_trained_on(module):
    own = module(train=rows(), limit=5)
    whole = module(state_of(own), train=rows())
    assert whole.count_trained("train") == 5 < len(whole.split("train"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": rows()[:, :3]}, r"has examples of shape \[3\] and the run had \[4\]"),
        (
            {"train": np.ones((9, 4), np.uint8)},
            "holds 256 pixel levels and the run had floating-point numbers",
        ),
        ({"train": rows(1, seed=5)}, "none of the 1 examples falls into the"),
    ],
)
def test_data_that_cannot_be_seen_as_those_of_the_run(module, arrays, message):
    state = state_of(module(train=rows()))
    with pytest.raises(InputError, match=message):
        module(state, **arrays)
