"""The price of a training step of an LSTM."""

import csv

import pytest
from benchmarks.sequences import VARIANTS, run_sequences

from savi.errors import InputError

CONFIG = {
    "seed": 0, "batch": 8, "latent_dim": 2, "hidden": 4, "max_steps": 2, "samples": 1,
    "variants": None, "train_steps": 1, "repetitions": 1,
}  # fmt: skip


def test_every_variant_has_its_line(tmp_path):
    _, counts = run_sequences(CONFIG, tmp_path)
    ratios = list(counts.columns[-1].cells)
    assert str(ratios[0]) == "1.00"
    assert all(float(str(ratio)) > 1.0 for ratio in ratios[1:])
    with (tmp_path / "sequences.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == list(VARIANTS)
    assert all(float(row["cpu_seconds"]) > 0 for row in rows)


def test_without_the_base_it_is_refused(tmp_path):
    with pytest.raises(InputError, match="add vae"):
        run_sequences(CONFIG | {"variants": ["stop"]}, tmp_path)
