"""The price of a training step."""

import csv

import pytest
from benchmarks.harness import run_config
from benchmarks.price import VARIANTS, run_price
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from savi.config.store import conf_dir
from savi.errors import InputError
from savi.report.table import plain_text

CONFIG = {
    "seed": 0, "dataset": "digits", "data_path": None, "batch": 16, "latent_dim": 2, "hidden": 8,
    "variants": None, "train_steps": 1, "repetitions": 2,
}  # fmt: skip


def test_every_variant_has_its_lines_and_its_ratio(tmp_path):
    (table,) = run_price(CONFIG, tmp_path)
    with (tmp_path / "price.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows[::2]] == list(VARIANTS)
    assert all(float(row["cpu_seconds"]) > 0 for row in rows)
    text = " ".join(plain_text(table).split())
    assert "1.00 × a plain step" in text
    assert text.count("at most") == sum(v.most is not None for v in VARIANTS.values())


@pytest.mark.parametrize(
    ("variants", "message"),
    [(["vea"], "unknown variant 'vea'.*savi_one_step"), (["savi"], "add vae")],
)
def test_variants_that_are_unknown_or_lack_the_base_are_refused(variants, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_price(CONFIG | {"variants": variants}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_batches_are_as_large_as_the_config_says(monkeypatch, tmp_path):
    taken = []

    def step(module, optimizer, x, measured):
        taken.append(len(x))

    monkeypatch.setattr("benchmarks.price.training_step", step)
    run_price(CONFIG | {"variants": ["vae"]}, tmp_path)
    assert set(taken) == {CONFIG["batch"]}


def test_a_runs_config_in_the_middle_of_a_benchmarks_own():
    with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
        own = GlobalHydra.instance().hydra
        assert run_config(["experiment=savi"])["inner"]["last_step"] == "trusted"
        assert GlobalHydra.instance().hydra is own
