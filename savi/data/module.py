"""The data module: any registered data set, in the model's units, as batches."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from pytorch_lightning import LightningDataModule
from torch import Tensor

from savi.config.data import DataConfig
from savi.config.data_changes import CHANGES, refuse_changes
from savi.data.batches import (
    Batch,
    Batches,
    DequantisedExamples,
    FixedExamples,
    OrderedBatches,
    ShuffledBatches,
    Visit,
)
from savi.data.partition import fingerprint
from savi.data.preprocessing import Preprocessing
from savi.data.randomness import generator
from savi.data.raw import Examples, RawData, partition_of, train_val_test
from savi.data.registry import bind
from savi.data.units import Units, distinct
from savi.data.vocabulary import Vocabulary
from savi.errors import InputError, unknown_option
from savi.settings import check_settings


class TensorDataModule(LightningDataModule):
    """A whole data set in memory, served in batches of flattened examples.

    Discrete data with L pixel levels k become x = (k + U)/L with U ~ U[0, 1) if ``dequantise``,
    otherwise x = k/(L - 1); continuous data stay as they are: these are the data's units. Then the
    training mean is subtracted if ``centre``, and x divided by the ``scale``. Training examples get
    fresh noise at every visit, determined by the seed, the epoch and the batch; validation and test
    examples get one noise for good. To ``binarise`` them is to draw ones with the probabilities
    k/(L - 1), and zeros otherwise.

    Splits, mean and scale are determined by the data once, at the beginning of a run. They are its
    `state_dict`, in every checkpoint; with `load_state_dict`, before `setup`, whatever data there
    are now are looked at in the same way.

    Args:
        name: One of `savi.data.DATASETS`.
        path: The file (``arrays``) or the folder of files already present, which is then used
            without the network; None to look under ``data/`` and to download if need be.
        limit: At most so many examples in each split, for quick runs; None for all.
        batch_size: Examples in a batch; the last one of an epoch may be smaller.
        dequantise: Whether to dequantise; of no effect on continuous data.
        centre: Whether to subtract the training mean.
        binarise: ``none``; ``dynamic``, a draw for every visit; or ``static``, one for good.
        scale: What x is divided by: ``none``; ``global``, the standard deviation of the training
            examples, averaged over dimensions; or ``per_feature``, each dimension's own.
        layout: ``channels_first``, or ``channels_last`` for images [H, W, C], which become
            [C, H, W].
        val_size: The validation split, taken from the training examples where the data set comes
            without one, and likewise the test split: a fraction if below 1, otherwise a count.
            Which examples, their content decides (`savi.data.partition`).
        seed: The seed of the splits, the order and the noise.
        options: What the data set's own loader takes.

    Attributes:
        shape: The shape of one example before flattening: (C, H, W) or (D,). This attribute and
            those below exist after `setup`.
        dim: The number D of dimensions.
        levels: The number L of levels, of pixels or of sequences, or None for continuous data.
        sequences: Whether examples are sequences of levels.
        padded: Whether some of them end before others do.
        mean: [D], what was subtracted from every example: zero if not ``centre``.
        units: The map between raw values, the data's units and x, with the scale.
        preprocessing: What belongs to a checkpoint: the units and where the splits lie.
        distinct: The different raw values of the training examples, if they are few.
        known: Whether these are the data that the preprocessing was fitted to.
        variance: The variance of the training examples x (of the dequantised ones, where that is
            done), averaged over dimensions.
        log_levels: Nats per dimension by which a density of x exceeds a probability of k, or a
            density of continuous data in their own units: log L if the data are dequantised,
            otherwise 0, plus the mean log of the scale. Since u = (k + U)/L has density p(u), the
            bits per dimension are -log p(u)/(D log 2) + log2(L), that is
            (-log p(x)/D + ``log_levels``)/log 2 (Theis, van den Oord and Bethge 2016).
        truth: The parameters that synthetic data were drawn with, in the units before centring,
            or None.
        classes: The number of different labels, or None where there are none.
        dtype: The precision of x, float32 unless set before `setup`.
        labelled: Whether batches have the labels behind x, False unless set before `setup`.

    Raises:
        InputError: for a setting that cannot be used; at construction where that can be told
            without reading the data, otherwise from `setup`.
    """

    name: str
    shape: tuple[int, ...]
    dim: int
    levels: int | None
    mean: Float[Tensor, " D"]
    units: Units
    preprocessing: Preprocessing
    distinct: Tensor
    known: bool
    variance: float
    log_levels: float
    truth: dict[str, Tensor] | None
    classes: int | None
    sequences: bool
    padded: bool

    def __init__(
        self,
        name: str,
        *,
        path: str | None = None,
        limit: int | None = None,
        batch_size: int = 128,
        dequantise: bool = True,
        centre: bool = True,
        binarise: str = "none",
        scale: str = "none",
        layout: str = "channels_first",
        val_size: float = 0.1,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._load = bind(name, path, options)
        bounded = {"limit": limit, "batch_size": batch_size, "seed": seed}
        words = {"binarise": binarise, "scale": scale, "layout": layout}
        check_settings(DataConfig, {**bounded, **words})
        if binarise != "none":
            refuse_changes(
                f"data.binarise '{binarise}'",
                {"dequantise": dequantise, "centre": centre, "scale": scale},
                reason="which makes ones and zeros of them",
                otherwise="data.binarise=none",
            )
        self.name, self.limit, self.batch_size, self.seed = name, limit, batch_size, seed
        self.dequantise, self.centre, self.val_size = dequantise, centre, val_size
        self.scale, self.layout, self.dtype = scale, layout, torch.float32
        self.labelled, self.classes = False, None
        self.binarise = binarise
        self._fitted: dict[str, Any] | None = None
        self._datasets: dict[str, FixedExamples | DequantisedExamples] = {}
        self._labels: dict[str, Tensor | None] = {}

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the data, all stages at once; a second call does nothing."""
        # Worker processes would only slow down the gathering of rows from memory.
        warnings.filterwarnings("ignore", ".*does not have many workers", category=UserWarning)
        if self._datasets:
            return
        raw = self._load()
        raw.check(self.name)
        raw = raw.arranged(self.name, self.layout)
        splits = self._split(raw)
        self.hashes = {split: examples.hashes for split, examples in splits.items()}
        self.known = self.preprocessing.fingerprint == fingerprint(self.hashes)
        self.shape, self.truth = raw.shape, raw.truth
        self.levels, self.sequences = self.preprocessing.levels, raw.sequences
        ends = (bool((one.values < 0).any()) for one in splits.values())
        self.padded = raw.sequences and any(ends)
        units = self.units = self.preprocessing.units
        self.distinct = distinct(splits["train"].values.flatten(1))
        self.mean, self.variance, self.log_levels = units.mean, units.variance, units.log_levels
        self.dim = len(units.mean)
        self._labels = {split: examples.labels for split, examples in splits.items()}
        self.classes = self._number_of_classes()
        if self.labelled and self.classes is None:
            raise InputError(
                f"model.condition 'labels': the data of '{self.name}' have no labels, or not whole "
                "numbers from 0 on, for all splits: set model.condition=none"
            )
        self._datasets = {
            split: self._dataset(split, examples, units) for split, examples in splits.items()
        }

    def _split(self, raw: RawData) -> dict[str, Examples]:
        """The splits, and what is taken from them unless a checkpoint has it already."""
        settings = self.val_size, self.limit, self.seed
        if self._fitted is not None:
            self.preprocessing = Preprocessing.of(self._fitted, self.dtype)
            self.preprocessing.require(self.name, raw)
            raw = raw.hashed(self.preprocessing.precise)
            splits = train_val_test(raw, *settings, self.preprocessing.partition)
            return _in_levels(raw, splits, self.preprocessing.vocabulary)
        precise = raw.needs_precision
        raw = raw.hashed(precise)
        partition = partition_of(raw, self.val_size, self.seed)
        splits = train_val_test(raw, *settings, partition)
        vocabulary, levels = None, raw.levels
        if raw.words is not None:
            vocabulary = Vocabulary.fit(splits["train"].values, raw.words)
            splits, levels = _in_levels(raw, splits, vocabulary), len(vocabulary.words)
        if raw.sequences:
            changes = {key: getattr(self, key) for key in CHANGES}
            refuse_changes(f"data '{self.name}', which are sequences,", changes)
        if self.binarise != "none" and raw.levels is None:
            _require_probabilities(self.name, splits)
        units = Units.fit(
            splits["train"].values.flatten(1),
            levels,
            dequantise=self.dequantise,
            centre=self.centre,
            scale=self.scale,
            binary=self.binarise != "none",
            dtype=self.dtype,
        )
        hashes = {split: examples.hashes for split, examples in splits.items()}
        trained = hashes["train"].unique()
        self.preprocessing = Preprocessing(
            units,
            raw.shape,
            levels,
            partition,
            trained,
            fingerprint(hashes),
            precise,
            raw.sequences,
            None if vocabulary is None else list(vocabulary.words),
        )
        return splits

    def state_dict(self) -> dict[str, Any]:
        """The preprocessing, for a checkpoint."""
        self.setup()
        return self.preprocessing.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Look at the data as the run of a checkpoint did, whatever they are now."""
        fitted = self._fitted["fingerprint"] if self._datasets and self._fitted else None
        # What is none of a run is refused where the data are read.
        known = state_dict.get("fingerprint") if isinstance(state_dict, Mapping) else None
        if fitted is not None and fitted == known:
            # They are looked at so already: a run that is continued was built for it.
            return
        self._fitted = state_dict
        self._datasets = {}

    def count_trained(self, name: str) -> int:
        """How many examples of ``train``, ``val`` or ``test`` the run was, or is, trained on."""
        self._examples(name)
        return self.preprocessing.count_trained(self.hashes[name])

    def _dataset(
        self, split: str, examples: Examples, units: Units
    ) -> FixedExamples | DequantisedExamples:
        values, labels = examples.values.flatten(1), examples.labels if self.labelled else None
        if split == "train" and units.random and self.binarise != "static":
            return DequantisedExamples(values, units, self.seed, labels)
        return FixedExamples(units(values, generator(f"{split} noise", self.seed)), labels)

    def _number_of_classes(self) -> int | None:
        """One more than the largest label of any split."""
        known = [labels for labels in self._labels.values() if labels is not None]
        if len(known) < len(self._labels) or any(
            labels.is_floating_point() or int(labels.min()) < 0 for labels in known
        ):
            return None
        return 1 + max(int(labels.max()) for labels in known)

    def split(self, name: str) -> Float[Tensor, "N D"]:
        """All examples of ``train``, ``val`` or ``test``, preprocessed as in batches.

        Dequantised training examples get one fixed noise and are computed at each call.

        Raises:
            InputError: for any other name.
        """
        return self._examples(name).x

    def visit(self, name: str, visit: Visit) -> Batch:
        """One batch of ``train``, ``val`` or ``test``, as a loader would give it.

        Raises:
            InputError: for any other name.
        """
        return self._examples(name)[visit]

    def rows(self, name: str) -> Float[Tensor, "N E"]:
        """What a model is given of all examples of a split: x, and the labels if `labelled`.

        Raises:
            InputError: for any other name.
        """
        return self._examples(name).rows

    def labels(self, name: str) -> Int[Tensor, " N"] | None:
        """The labels of ``train``, ``val`` or ``test``, or None where the data set has none.

        Raises:
            InputError: for any other name.
        """
        self._examples(name)
        return self._labels[name]

    def _examples(self, name: str) -> FixedExamples | DequantisedExamples:
        self.setup()
        if name not in self._datasets:
            raise unknown_option("split", name, self._datasets)
        return self._datasets[name]

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """The batch on the device; Lightning's own search for tensors would cost more than that."""
        return Batch(*(part.to(device, non_blocking=True) for part in batch))

    def train_dataloader(self) -> Batches:
        """Shuffled batches, or ordered ones under Lightning's ``overfit_batches``."""
        overfit, trainer = getattr(self.trainer, "overfit_batches", 0), self.trainer
        devices = (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
        return self._loader("train", OrderedBatches if overfit else ShuffledBatches, *devices)

    def val_dataloader(self) -> Batches:
        """The validation split in its order, all of it on every device.

        Its figures are then those of one device, to the last bit, and need no exchange.
        """
        return self._loader("val", OrderedBatches)

    def test_dataloader(self) -> Batches:
        """The test split in its order, all of it on every device."""
        return self._loader("test", OrderedBatches)

    def predict_dataloader(self) -> Batches:
        """The test split in its order, for ``Trainer.predict``."""
        return self._loader("test", OrderedBatches)

    def _loader(
        self, name: str, sampler: type[ShuffledBatches], devices: int = 1, rank: int = 0
    ) -> Batches:
        examples, pinned = self._examples(name), torch.cuda.is_available()
        order = sampler(len(examples), self.batch_size, self.seed, num_replicas=devices, rank=rank)
        return Batches(examples, batch_size=None, sampler=order, pin_memory=pinned)


def _in_levels(
    raw: RawData, splits: dict[str, Examples], vocabulary: Vocabulary | None
) -> dict[str, Examples]:
    """The splits of words in the levels of a vocabulary; those of other data as they are."""
    if raw.words is None or vocabulary is None:
        return splits
    return {
        split: replace(one, values=vocabulary.renumbered(one.values, raw.words))
        for split, one in splits.items()
    }


def _require_probabilities(name: str, splits: Mapping[str, Examples]) -> None:
    """Refuse continuous data outside of [0, 1] that are to be binarised.

    Raises:
        InputError: for the first split that has any.
    """
    for split, examples in splits.items():
        values = examples.values
        if len(values) == 0:
            continue
        least, most = float(values.min()), float(values.max())
        if least < 0.0 or most > 1.0:
            raise InputError(
                f"data.binarise: the {split} examples of '{name}' hold values from "
                f"{least:.3g} to {most:.3g}, which are no "
                "probabilities: bring them into [0, 1], or set data.binarise=none"
            )
