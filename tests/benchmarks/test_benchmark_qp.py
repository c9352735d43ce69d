"""Timing quadratic programs: tiny ones, with and without the peer."""

import csv
import sys
from importlib.util import find_spec

import pytest
import torch
from benchmarks.qp import random_programs, run_qp, solvers

from savi.errors import InputError
from savi.report.table import plain_text

CONFIG = {"seed": 0, "batch": 3, "sizes": [2, 4], "tolerance": 1e-10, "repetitions": 2}


def read(folder):
    with (folder / "qp.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_without_the_peer(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "qpth.qp", None)
    (table,) = run_qp(CONFIG, tmp_path)
    rows = read(tmp_path)
    assert [row["solver"] for row in rows] == ["savi"] * 8
    assert [(row["variables"], row["equalities"]) for row in rows[::2]] == [
        ("2", "0"),
        ("2", "1"),
        ("4", "0"),
        ("4", "2"),
    ]
    assert all(float(row["seconds"]) > 0 and row["value_difference"] == "" for row in rows)
    text = plain_text(table)
    assert text.count("–") >= 16
    assert "batches of 3" in text


@pytest.mark.skipif(find_spec("qpth") is None, reason="qpth is not installed")
def test_a_run_with_the_peer(tmp_path):
    run_qp(CONFIG, tmp_path)
    rows = read(tmp_path)
    assert [row["solver"] for row in rows] == ["savi", "savi", "qpth", "qpth"] * 4
    assert all(float(row["value_difference"]) < 1e-6 for row in rows)
    assert all(float(row["gradient_difference"]) < 1e-4 for row in rows)


def test_the_programs_are_what_they_are_said_to_be():
    programs = random_programs(8, 10, 5, seed=0)
    assert [tuple(t.shape) for t in programs.parameters] == [
        (8, 10, 10),
        (8, 10),
        (8, 5, 10),
        (8, 5),
        (8, 10, 10),
        (8, 10),
    ]
    assert torch.linalg.eigvalsh(programs.Q).min() > 0.09
    answer = solvers(1e-10)["savi"](programs)
    assert answer.value.isfinite().all()
    x = answer.value.unsqueeze(-1)
    active = ((programs.G @ x).squeeze(-1) - programs.h).abs() < 1e-9
    assert active.any(dim=1).all()
    assert random_programs(8, 10, 0, seed=0).A is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": []}, r"sizes is \[\]: give rising numbers from 2 on"),
        ({"sizes": [1, 4]}, "sizes is .*: give rising numbers from 2 on"),
        ({"sizes": [4, 2]}, "sizes is .*: give rising numbers from 2 on"),
        ({"batch": 0}, "batch is 0: set it to 1 or more"),
        ({"repetitions": 0}, "repetitions is 0: set it to 1 or more"),
        ({"tolerance": 0.0}, "tolerance is 0.0: set it to 1e-14"),
    ],
)
def test_what_is_out_of_range_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_qp(CONFIG | change, tmp_path)
    assert list(tmp_path.iterdir()) == []
