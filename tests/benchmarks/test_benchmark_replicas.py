"""Timing joint trainings against separate ones."""

import csv

import pytest
from benchmarks.replicas import run_replicas

from savi.errors import InputError
from savi.report.table import plain_text

CONFIG = {
    "seed": 0,
    "experiments": ["vae"],
    "replicas": [2],
    "overrides": ["data.limit=32", "data.batch_size=16", "model.hidden=8", "trainer.max_epochs=1"],
}


@pytest.mark.filterwarnings("ignore:The '.*' does not have many workers")
@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_a_run(tmp_path):
    (table,) = run_replicas(CONFIG, tmp_path)
    with (tmp_path / "replicas.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    separate, joint = float(row["separate_seconds"]), float(row["joint_seconds"])
    assert float(row["factor"]) == pytest.approx(separate / joint)
    assert separate > 0
    assert f"{float(row['factor']):.2f} ×" in plain_text(table)


@pytest.mark.parametrize("wrong", [{"experiments": []}, {"replicas": []}, {"replicas": [1]}])
def test_values_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(InputError):
        run_replicas(CONFIG | wrong, tmp_path)
    assert not list(tmp_path.iterdir())
