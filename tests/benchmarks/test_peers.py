"""One process for each system: who is asked, what is answered, and what is made of it."""

import csv
import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.peers.client import Worker, WorkerError
from benchmarks.peers.limits import chosen_threads, environment, processors
from benchmarks.peers.outcome import Judgement, Outcome
from benchmarks.peers.problem import Problem
from benchmarks.peers.report import (
    fastest,
    ours,
    relative_times,
    result_table,
    rivals,
    target_table,
)
from benchmarks.peers.run import chosen_systems, run_peers
from benchmarks.peers.systems import SYSTEMS, Settings, System
from benchmarks.peers.worker import timed
from benchmarks.timing import Timing
from benchmarks.trained import trained_batch

from savi.errors import InputError
from savi.report.table import plain_text

CONFIG = {
    "seed": 0,
    "threads": 1,
    "dataset": "digits",
    "data_path": None,
    "batch": 6,
    "latent_dim": 2,
    "hidden": 16,
    "depth": 1,
    "activation": "softplus",
    "train_steps": 200,
    "checkpoint": None,
    "sides": [None, 4],
    "converged_sides": [None],
    "systems": ["savi_ift", "savi_stop", "savi_lbfgs"],
    "steps": 60,
    "relative_lr": 1.0,
    "rtol": 1e-3,
    "fraction": 1.0,
    "max_steps": 100,
    "tolerance": 1e-2,
    "rounds": 2,
    "turn": 0.0,
    "timeout": 120.0,
}
SETTINGS = Settings(steps=5, lr=0.01, rtol=1e-3, fraction=1.0, max_steps=20)


def outcome(name, seconds, off=1e-6, **changes):
    system = SYSTEMS[name]
    judgement = Judgement(off, off if system.part == "fixed" else None, np.full(4, 1e-3))
    found = Outcome(system.part, 784, name, Timing(float("nan"), list(seconds)), judgement)
    return replace(found, **changes)


FIXED = [
    outcome("savi_ift", [1.0, 10.0]),
    outcome("savi_ift_cg", [2.0, 20.0]),
    outcome("savi_stop", [0.5, 5.0]),
    outcome("jax_implicit", [3.0, 30.0]),
    outcome("jax_unrolled", [9.0, 90.0]),
    outcome("torchdeq_implicit", [0.1, 1.0], off=0.5),
    Outcome("fixed", 784, "higher_unrolled", Timing(float("nan"), refusal="no memory")),
]
CONVERGED = [
    outcome("savi_levenberg_marquardt", [1.0]),
    outcome("jax_adam", [12.0]),
    outcome("jax_momentum", [11.0]),
    outcome("optimistix_newton", [0.2], off=3.0),
    outcome("optimistix_gauss_newton", [2.5]),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    tables = run_peers(CONFIG, folder)
    with (folder / "peers.csv").open(newline="", encoding="utf-8") as file:
        return folder, [plain_text(table, 140) for table in tables], list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run(finished):
    folder, (fixed, converged, large, targets), rows = finished
    files = {path.name for path in folder.iterdir()}
    assert files == {"peers.csv", "peers.png", "problem-64.npz", "problem-48.npz"}
    assert [(row["part"], row["D"], row["system"], row["round"]) for row in rows] == [
        (part, data_dim, system, number)
        for part, data_dim, system in (
            ("fixed", "64", "savi_ift"),
            ("fixed", "64", "savi_stop"),
            ("converged", "64", "savi_lbfgs"),
            ("fixed", "48", "savi_ift"),
            ("fixed", "48", "savi_stop"),
        )
        for number in "12"
    ]
    assert all(float(row["seconds"]) > 0 for row in rows)
    by_system = {row["system"]: row for row in rows}
    assert float(by_system["savi_ift"]["deviation"]) < 1e-4
    assert float(by_system["savi_stop"]["deviation"]) < 1e-4
    assert float(by_system["savi_stop"]["error"]) > float(by_system["savi_ift"]["error"])
    assert float(by_system["savi_lbfgs"]["error"]) < 1e-2
    assert float(by_system["savi_lbfgs"]["stationarity_95"]) <= 1e-3
    assert "60 steps of gradient descent, D = 64" in fixed
    assert "Solved to 0.001 for 100% of the examples, D = 64" in converged
    assert "60 steps of gradient descent, D = 48" in large
    # There is no other library to compare with.
    assert "target" in targets
    assert "met" not in targets


@pytest.mark.slow
def test_a_worker_rests_between_orders_and_ends(finished, tmp_path):
    path = finished[0] / "problem-64.npz"
    with Worker("savi_stop", path, 1, SETTINGS, timeout=120.0) as worker:
        process = worker._process
        assert worker.note == ""
        answer = worker.answer(tmp_path / "answer.npz")
        problem = Problem.load(path)
        assert answer.value.shape == problem.start.shape
        assert len(answer.gradient) == sum(weight.size for weight in problem.weights)
        assert list(tmp_path.iterdir()) == []
        assert worker.seconds(0.0) > 0
        if hasattr(os, "sched_getaffinity"):
            assert len(os.sched_getaffinity(process.pid)) == 1
            time.sleep(0.2)  # OpenMP waits for more work before it sleeps
            before = _ticks(process.pid)
            time.sleep(0.5)
            assert _ticks(process.pid) - before <= 2
        process.kill()
        process.wait()
        with pytest.raises(WorkerError, match="the process ended with code"):
            worker.seconds(0.0)
    assert process.returncode is not None


def _ticks(pid):
    """The processor time of a process so far, in hundredths of a second."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.slow
def test_a_worker_that_fails_says_why(finished, tmp_path):
    path = finished[0] / "problem-64.npz"
    never = replace(SETTINGS, rtol=1e-30, max_steps=2)
    with pytest.raises(WorkerError, match="do not reach 1e-30 in 2 steps"):
        Worker("savi_newton", path, 1, never, timeout=120.0)
    with pytest.raises(WorkerError, match=r"no answer in 0\.01 s"):
        Worker("savi_stop", path, 1, SETTINGS, timeout=0.01)


def test_a_turn_takes_as_many_steps_as_begin_in_it():
    class Sleeper(System):
        count = 0

        def __init__(self):
            pass

        def step(self):
            self.count += 1
            time.sleep(0.01)

    system = Sleeper()
    assert timed(system, 0.0) >= 0.01
    assert system.count == 1
    timed(system, 0.1)
    assert 3 <= system.count <= 11


def test_all_have_the_same_threads():
    given = environment(3)
    assert given["OMP_NUM_THREADS"] == given["NPROC"] == "3"
    assert "intra_op_parallelism_threads=3" in given["XLA_FLAGS"]
    assert chosen_threads(None) == min(torch.get_num_threads(), len(processors()))
    assert chosen_threads(1) == 1


def test_only_what_is_right_is_compared():
    assert fastest(FIXED, 1e-2).name == "savi_stop"
    assert ours(FIXED, 1e-2).name == "savi_ift"
    found = {rival.group: rival for rival in rivals(FIXED, 1e-2)}
    assert {group: rival.outcome.name for group, rival in found.items()} == {
        "all": "jax_implicit",
        "unrolled": "jax_unrolled",
    }
    assert str(found["all"].target) == "3.00 × savi ift, at least 2: met"
    assert str(found["unrolled"].target) == "9.00 × savi ift, at least 5: met"
    (large,) = rivals([replace(found, data_dim=12_288) for found in FIXED], 1e-2)
    assert str(large.target) == "3.00 × savi ift, at least 8: MISSED"
    # With a looser tolerance the wrong one counts.
    assert rivals(FIXED, 1.0)[0].outcome.name == "torchdeq_implicit"
    assert rivals(FIXED[3:], 1e-2) == []


def test_targets_of_converged_solves():
    first, second = rivals(CONVERGED, 1e-2)
    assert (first.outcome.name, second.outcome.name) == ("jax_momentum", "optimistix_gauss_newton")
    assert str(first.target) == "11.00 × savi levenberg_marquardt, at least 10: met"
    assert str(second.target) == "2.50 × savi levenberg_marquardt, at least 3: MISSED"


def test_tables_show_everyone():
    text = plain_text(result_table(FIXED, CONFIG), 140)
    lines = [
        line for line in text.splitlines() if line.strip().startswith(("savi", "jax", "torch"))
    ]
    assert [line.split("  ")[0].strip() for line in lines[:3]] == [
        "torchdeq, implicit", "savi stop", "savi ift",
    ]  # fmt: skip
    assert "does not count" in lines[0]
    assert sum("does not count" in line for line in lines) == 1
    assert "failed: no memory" in text
    assert plain_text(target_table([FIXED, CONVERGED], CONFIG), 140).count("met") == 3


def test_the_figure_has_a_panel_for_each_problem():
    figure = relative_times([FIXED, CONVERGED, FIXED[3:]], CONFIG)
    first, second = figure.axes
    assert [bar.get_width() for bar in first.patches] == [9.0, 3.0, 2.0, 1.0, 0.5, 0.1]
    assert [bool(bar.get_hatch()) for bar in second.patches] == [False] * 4 + [True]


def test_rows_of_what_has_failed():
    (row,) = FIXED[-1].rows()
    assert (row["round"], row["seconds"], row["failure"]) == (0, None, "no memory")
    assert [row["round"] for row in FIXED[0].rows()] == [1, 2]


def test_what_is_not_installed_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(
        "benchmarks.systems.find_spec", lambda name: name if name == "savi" else None
    )
    found = chosen_systems(None)
    assert found
    assert all(SYSTEMS[name].is_ours() for name in found)
    out = capsys.readouterr().out
    assert "not installed, left out: " in out
    assert "optimistix_newton" in out
    with pytest.raises(InputError, match=r"'jax_adam' needs jax: pip install 'savi-vae\[bench\]'"):
        chosen_systems(["savi_ift", "jax_adam"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 1}, "steps is 1: set it to 2 or more"),
        ({"rounds": 0}, "rounds is 0: set it to 1 or more"),
        ({"turn": -1.0}, "turn is -1.0: set it to 0 or more"),
        ({"max_steps": 0}, "max_steps is 0: set it to 1 or more"),
        ({"relative_lr": 2.5}, "relative_lr is 2.5: set it above 0 and to at most 2"),
        ({"rtol": 0.0}, "rtol is 0.0: set it above 0 and to at most 1"),
        ({"fraction": 1.1}, "fraction is 1.1: set it above 0 and to at most 1"),
        ({"tolerance": 0.0}, "tolerance is 0.0: set it above 0"),
        ({"timeout": 0.0}, "timeout is 0.0: set it above 0, in seconds"),
        ({"sides": []}, r"sides is \[\]: give at least one, such as \[null,64\]"),
        ({"converged_sides": [64]}, "converged_sides holds 64, which is not in sides"),
        ({"activation": "tanh"}, "activation is tanh: the other libraries are given softplus"),
        ({"checkpoint": "a.ckpt", "sides": [None, 64]}, "sides is .* with a checkpoint"),
        ({"systems": ["foo"]}, "unknown system 'foo'"),
        ({"systems": []}, r"systems is \[\]: name at least one, or set it to null for all"),
        ({"threads": 0}, "threads is 0: set it to 1 or more"),
        ({"threads": 10_000}, "threads is 10000, and this process may use"),
        ({"batch": 100_000}, "100000 examples is asked for, and the validation split"),
    ],
)
def test_what_is_out_of_range_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_peers(CONFIG | change, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_problems_come_from_trained_batches():
    batch = trained_batch(CONFIG | {"side": None, "train_steps": 1})
    again = Problem.of(batch).batch()
    z = batch.start
    torch.testing.assert_close(again.objective().value(z), batch.objective().value(z))
    torch.testing.assert_close(again.outer(z), batch.outer(z))
