import math

import pytest
import pytorch_lightning as lightning
import torch

from savi.data import Batch, Examples, RawData, TensorDataModule
from savi.errors import InputError


def epoch_of(data: TensorDataModule, epoch: int = 0) -> Batch:
    """All batches of a training epoch, joined."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


@pytest.fixture
def digits() -> TensorDataModule:
    data = TensorDataModule("digits", val_size=0.2)
    data.setup()
    return data


class TestSetup:
    def test_attributes_of_the_digits(self, digits):
        assert digits.shape == (1, 8, 8)
        assert digits.dim == 64
        assert digits.levels == 17
        assert digits.log_levels == math.log(17)
        assert digits.truth is None
        assert digits.mean.shape == (64,)
        train = digits.split("train").double()
        assert train.mean(0).abs().max() < 5 * 0.3 / 17 / len(train) ** 0.5
        assert digits.variance == pytest.approx(
            float(train.var(0, unbiased=False).mean()), rel=0.01
        )

    def test_splits_are_flat_and_labelled(self, digits):
        sizes = {"train": 1079, "val": 359, "test": 359}
        for name, size in sizes.items():
            assert digits.split(name).shape == (size, 64)
            assert digits.split(name).dtype == torch.float32
            assert digits.labels(name).shape == (size,)

    def test_a_second_call_changes_nothing(self, digits):
        before = digits.split("val")
        digits.setup("fit")
        assert digits.split("val") is before

    def test_the_same_seed_gives_the_same_data(self, digits):
        again, other = (TensorDataModule("digits", val_size=0.2, seed=seed) for seed in (0, 1))
        for name in ("train", "val", "test"):
            assert torch.equal(digits.split(name), again.split(name))
            assert not torch.equal(digits.split(name), other.split(name))

    def test_limit(self):
        data = TensorDataModule("digits", limit=50)
        assert [len(data.split(name)) for name in ("train", "val", "test")] == [50, 50, 50]
        assert len(data.labels("train")) == 50

    def test_data_without_labels(self):
        data = TensorDataModule("linear_gaussian", options={"n": 100})
        assert data.labels("train") is None


class TestPreprocessing:
    def test_exact_values_without_noise(self, levels_set):
        data = TensorDataModule("levels", dequantise=False, centre=False)
        raw = levels_set().train.values.flatten(1)
        expected = raw[data.labels("train")] / 255
        assert torch.equal(data.split("train"), expected)
        assert torch.equal(epoch_of(data).x, expected[epoch_of(data).index])
        assert data.log_levels == 0.0
        assert torch.equal(data.mean, torch.zeros(256))

    @pytest.mark.parametrize("name", ["train", "val", "test"])
    def test_noise_stays_in_its_bin(self, levels_set, name):
        data = TensorDataModule("levels", centre=False)
        raw = levels_set().train.values.flatten(1)[data.labels(name)]
        assert torch.equal((data.split(name) * 256).floor(), raw.float())

    def test_centred_values_are_the_others_less_the_mean(self, levels_set):
        centred, plain = (TensorDataModule("levels", centre=centre) for centre in (True, False))
        for name in ("train", "val", "test"):
            assert torch.equal(centred.split(name), plain.split(name) - centred.mean)
        assert torch.equal(epoch_of(centred).x, epoch_of(plain).x - centred.mean)
        assert centred.variance == plain.variance

    def test_continuous_data_have_no_levels(self):
        data = TensorDataModule("linear_gaussian", dequantise=True)
        data.setup()
        assert data.levels is None
        assert data.log_levels == 0.0
        batch = epoch_of(data)
        assert torch.equal(batch.x, data.split("train")[batch.index])


class TestLoaders:
    def test_training_noise_is_fresh_and_keyed_by_seed_and_epoch(self, levels_set):
        def sorted_epoch(seed: int, epoch: int) -> torch.Tensor:
            data = TensorDataModule("levels", centre=False, seed=seed, batch_size=16)
            batch = epoch_of(data, epoch)
            return batch.x[batch.index.argsort()]

        data = TensorDataModule("levels", centre=False)
        first, second = sorted_epoch(0, 0), sorted_epoch(0, 1)
        assert torch.equal(first, sorted_epoch(0, 0))
        assert torch.equal((first * 256).floor(), (second * 256).floor())
        assert torch.eq(first, second).float().mean() < 0.001
        assert torch.eq(first, data.split("train")).float().mean() < 0.001

    def test_training_batches(self, digits):
        batches = list(digits.train_dataloader())
        assert [len(batch.x) for batch in batches] == [128] * 8 + [1079 - 8 * 128]
        assert all(isinstance(batch, Batch) for batch in batches)
        assert batches[0].x.dtype == torch.float32
        assert len(digits.train_dataloader()) == 9

    @pytest.mark.parametrize("name", ["val", "test"])
    def test_evaluation_batches_are_the_split_in_its_order(self, digits, name):
        loader = getattr(digits, f"{name}_dataloader")()
        batches = list(loader)
        assert torch.equal(torch.cat([batch.x for batch in batches]), digits.split(name))
        index = torch.cat([batch.index for batch in batches])
        assert torch.equal(index, torch.arange(359))


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"limit": 0}, "^limit is 0: set it to 1 or more"),
            ({"batch_size": 0}, "^batch_size is 0: set it to 1 or more"),
            ({"batch_size": -3}, "^batch_size is -3"),
            ({"seed": -1}, "^seed is -1: set it to 0 or more"),
            ({"options": {"n": 3}}, "'digits' has no options"),
        ],
    )
    def test_at_construction(self, settings, message):
        with pytest.raises(InputError, match=message):
            TensorDataModule("digits", **settings)

    def test_unknown_data_set_lists_the_known_ones(self):
        with pytest.raises(InputError, match=r"unknown data set 'digit': .*digits, fashion_mnist"):
            TensorDataModule("digit")

    def test_unknown_split(self, digits):
        for method in (digits.split, digits.labels):
            with pytest.raises(InputError, match="unknown split 'valid': choose one of test, tr"):
                method("valid")

    def test_bad_values_are_told_at_setup(self, datasets):
        datasets.register("bad")(lambda: RawData(Examples(torch.full((9, 2), math.inf))))
        data = TensorDataModule("bad")
        with pytest.raises(InputError, match="data set 'bad': the train split has NaN or inf"):
            data.setup()

    def test_nothing_left_to_train_on(self):
        with pytest.raises(InputError, match="leaves none to train on"):
            TensorDataModule("digits", val_size=1797).setup()


class Recorder(lightning.LightningModule):
    """A model that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, Batch]] = []
        self.validated: list[Batch] = []

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch))
        return self.weight * batch.x.sum()

    def validation_step(self, batch: Batch, _: int) -> None:
        self.validated.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-6)

    def epoch(self, number: int) -> Batch:
        batches = [batch for epoch, batch in self.seen if epoch == number]
        return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def trainer(**settings: object) -> lightning.Trainer:
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return lightning.Trainer(accelerator="cpu", **dict.fromkeys(quiet, False), **settings)


# Lightning's own use of torch; any other warning fails these tests.
@pytest.mark.filterwarnings(r"ignore:.isinstance\(treespec, LeafSpec\).:FutureWarning")
class TestLightning:
    def data(self) -> TensorDataModule:
        return TensorDataModule("digits", limit=40, batch_size=16)

    def test_the_epoch_reaches_the_sampler(self):
        model = Recorder()
        trainer(max_epochs=2).fit(model, self.data())
        for epoch in range(2):
            expected = epoch_of(self.data(), epoch)
            assert torch.equal(model.epoch(epoch).index, expected.index)
            assert torch.equal(model.epoch(epoch).x, expected.x)
        assert not torch.equal(model.epoch(0).index, model.epoch(1).index)

    def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(self, tmp_path):
        whole, first, resumed = Recorder(), Recorder(), Recorder()
        trainer(max_epochs=3).fit(whole, self.data())
        interrupted = trainer(max_epochs=2)
        interrupted.fit(first, self.data())
        interrupted.save_checkpoint(tmp_path / "last.ckpt")
        trainer(max_epochs=3).fit(resumed, self.data(), ckpt_path=tmp_path / "last.ckpt")
        assert {epoch for epoch, _ in resumed.seen} == {2}
        assert torch.equal(resumed.epoch(2).x, whole.epoch(2).x)
        assert torch.equal(resumed.epoch(2).index, whole.epoch(2).index)

    def test_no_advice_to_add_workers(self, monkeypatch):
        connector = "pytorch_lightning.trainer.connectors.data_connector"
        monkeypatch.setattr(f"{connector}.suggested_max_num_workers", lambda devices: 8)
        model = Recorder()
        trainer(max_epochs=1).fit(model, self.data())
        assert len(model.seen) == 3

    def test_overfitting_repeats_the_same_whole_batches(self):
        model = Recorder()
        trainer(max_epochs=2, overfit_batches=1).fit(model, self.data())
        for epoch in range(2):
            assert torch.equal(model.epoch(epoch).index, torch.arange(16))
        assert len(model.validated[0].x) == 16
