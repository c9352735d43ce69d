"""The rows of ``metrics.csv``."""

import os

import pytest
import torch

from savi.experiments.metrics_log import BUFFER, MetricsLog
from savi.report.figures import read_metrics

FIGURES = [{"a": 1.0}, {"b": torch.tensor(2.5)}, {"a": float("nan"), "c": 3}, {"a": 4.0}]


def logged(folder, figures, first=0, rows=0):
    log = MetricsLog(folder, rows)
    for step, figure in enumerate(figures, start=first):
        log.log_metrics(figure, step)
    log.finalize("success")
    return log


def test_rows_are_sparse_and_columns_sorted(tmp_path):
    log = logged(tmp_path, FIGURES)
    assert log.rows == 4
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["a,b,c,step", "1.0,,,0", ",2.5,,1", "nan,,3,2", "4.0,,,3"]
    assert read_metrics(tmp_path / "metrics.csv")["a"].steps.tolist() == [0, 2, 3]


def test_the_file_is_the_same_however_often_it_is_written(tmp_path):
    logged(tmp_path / "one", FIGURES)
    log = MetricsLog(tmp_path / "two")
    for step, figure in enumerate(FIGURES):
        log.log_metrics(figure, step)
        log.save()
    assert (tmp_path / "two/metrics.csv").read_bytes() == (
        tmp_path / "one/metrics.csv"
    ).read_bytes()


def test_a_log_goes_on_after_the_rows_that_it_keeps(tmp_path):
    logged(tmp_path / "whole", FIGURES)
    logged(tmp_path / "part", FIGURES)
    file = tmp_path / "part/metrics.csv"
    # As a kill leaves it: rows that will come again, and a part of one.
    file.write_text(file.read_text() + "9.0,,")
    logged(tmp_path / "part", FIGURES[2:], first=2, rows=2)
    assert file.read_bytes() == (tmp_path / "whole/metrics.csv").read_bytes()


@pytest.mark.parametrize(
    "row", ["5.0,,,9,1.0,2.0", "5.0,,", f'5.0,"{"7" * 200_000}'], ids=["long", "short", "endless"]
)
def test_a_damaged_row_is_left_out_and_said_to_be(tmp_path, capsys, row):
    logged(tmp_path, FIGURES)
    file = tmp_path / "metrics.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], row]) + "\n")
    assert MetricsLog(tmp_path, rows=4).rows == 3
    assert file.read_text().splitlines() == lines[:-1]
    assert "metrics.csv is damaged: 1 of its rows are lost" in capsys.readouterr().err


def test_a_log_that_is_larger_than_any_runs_is_lost(tmp_path, capsys):
    path = tmp_path / "metrics.csv"
    path.write_text("step\n1\n")
    os.truncate(path, 1 << 40)
    assert MetricsLog(tmp_path, 1).rows == 0
    assert "is damaged: 1 of its rows are lost" in capsys.readouterr().err
    assert not path.exists()


def test_a_new_log_begins_anew(tmp_path):
    logged(tmp_path, FIGURES)
    assert MetricsLog(tmp_path).rows == 0
    assert not (tmp_path / "metrics.csv").exists()


def test_few_rows_wait_in_memory(tmp_path):
    log = MetricsLog(tmp_path)
    for step in range(BUFFER):
        log.log_metrics({"a": 1.0}, step)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == BUFFER + 1
