"""The whole benchmark: its tables, its file, and what it says of this library."""

import csv

import pytest
from benchmarks.safety import chosen_systems, run_safety, spread
from benchmarks.safety.judge import Outcome, judge
from benchmarks.safety.problem import CONTROL, FAMILIES
from benchmarks.safety.systems import SYSTEMS

from savi.errors import InputError
from savi.report.table import plain_text

CONFIG = {
    "seed": 0,
    "tolerance": 1e-2,
    "families": ["kink", "singular", CONTROL],
    "systems": ["savi_ift", "savi_unrolled"],
    "per_family": 3,
    "calls": ["damping", "dependent_constraints"],
}


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("safety")
    tables = run_safety(CONFIG, folder)
    return tables, read(folder / "safety.csv"), read(folder / "safety_calls.csv")


def test_a_line_for_each_system_and_problem(finished):
    _, rows, _ = finished
    assert len(rows) == 2 * 3 * 3
    assert list(rows[0]) == [
        "system", "family", "problem", "outcome", "error", "stationarity", "word",
    ]  # fmt: skip
    assert {row["system"] for row in rows} == set(CONFIG["systems"])
    assert {row["outcome"] for row in rows} <= {outcome.value for outcome in Outcome}
    for row in rows:
        if row["outcome"] == "right":
            assert float(row["error"]) <= 1e-2
        if row["outcome"] == "wrong in silence":
            assert float(row["error"]) > 1e-2
            assert row["word"] == ""
        if row["outcome"] == "wrong, and said so":
            assert row["word"]


def test_the_tables_count_the_lines(finished):
    (by_system, by_family, _), rows, _ = finished
    silent = sum(
        (row["system"], row["outcome"]) == ("savi_unrolled", "wrong in silence")
        for row in rows
        if row["family"] != CONTROL
    )
    assert silent > 0
    text = plain_text(by_system, 120)
    assert "6 ill-posed inner problems" in text
    (line,) = [line for line in text.splitlines() if "savi unrolled*" in line]
    assert line.split()[2:][3] == str(silent)
    assert "0/3" in plain_text(by_family, 120)


def test_a_line_for_each_of_the_other_calls_and_their_counts(finished):
    (*_, by_call), _, rows = finished
    assert [row["family"] for row in rows] == [name for name in CONFIG["calls"] for _ in range(3)]
    assert list(rows[0]) == ["family", "call", "well_posed", "outcome", "error", "word"]
    hazards = [row for row in rows if row["well_posed"] == "False"]
    assert 0 < len(hazards) < 6
    text = plain_text(by_call, 120)
    assert f"{len(hazards)} hazards" in text
    (line,) = [line for line in text.splitlines() if line.split()[:1] == ["all"]]
    right, told, silent, _ = (sum(r["outcome"] == o.value for r in hazards) for o in Outcome)
    figures = list(map(int, line.split()[1:]))
    assert (figures[0], *figures[2:4]) == (right, told, silent)
    assert figures[4:] == [6 - len(hazards), 0, 0]


def test_no_other_calls_no_file(tmp_path):
    tables = run_safety(CONFIG | {"calls": [], "families": ["saddle"], "per_family": 1}, tmp_path)
    assert len(tables) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["safety.csv"]


def test_the_same_seed_gives_the_same_file(finished, tmp_path):
    run_safety(CONFIG, tmp_path)
    assert read(tmp_path / "safety.csv") == finished[1]
    assert read(tmp_path / "safety_calls.csv") == finished[2]


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_implicit_gradient_is_never_wrong_in_silence(family, problems):
    system = SYSTEMS["savi_ift"]()
    verdicts = {
        f"{number}: {problem.name}": judge(system, problem, 1e-2)
        for number, problem in enumerate(problems[family])
    }
    assert [name for name, v in verdicts.items() if v.outcome is Outcome.SILENT] == []
    if family == CONTROL:
        assert [name for name, v in verdicts.items() if v.word] == []


def test_a_part_of_a_family_is_spread_over_it():
    assert spread(list(range(9)), 3) == [0, 4, 8]
    assert spread(list(range(9)), 20) == list(range(9))
    assert spread(list(range(9)), None) == list(range(9))


def test_what_is_not_installed_is_left_out_and_named(monkeypatch, capsys):
    for system in SYSTEMS.values():
        if not system.is_ours():
            monkeypatch.setattr(system, "is_installed", classmethod(lambda cls: False))
    assert set(chosen_systems(None)) == {"savi_ift", "savi_ift_cg", "savi_unrolled"}
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        "not installed, left out: higher, torchdeq, torchopt (pip install 'savi-vae[bench]')"
    )
    with pytest.raises(InputError, match="'higher_unrolled' needs higher: pip install"):
        chosen_systems(["higher_unrolled"])
    # Nothing is said where nothing was left out.
    chosen_systems(["savi_ift"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tolerance": 0.0}, "tolerance is 0.0: set it above 0"),
        ({"per_family": 0}, "per_family is 0: set it to 1 or more"),
        ({"seed": -1}, "seed is -1: set it to 0 or more"),
        (
            {"families": ["foo"]},
            "unknown family 'foo': choose one of at_rest, fast_parameter, ill_conditioned, kink",
        ),
        ({"calls": ["foo"]}, "unknown family of calls 'foo': choose one of damping, dependent"),
        ({"systems": ["foo"]}, "unknown system 'foo': choose one of higher_unrolled, savi_ift"),
    ],
)
def test_what_is_out_of_range_is_refused_before_any_work(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_safety(CONFIG | change, tmp_path)
    assert list(tmp_path.iterdir()) == []
