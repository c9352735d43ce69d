"""Counting bytes: what is counted, and that it grows with K as each backend says."""

import csv
import math

import pytest
import torch
from benchmarks.decoder import decoder_problem, descent
from benchmarks.harness import Target
from benchmarks.live_bytes import LiveBytes, SavedTensors, storage_of
from benchmarks.memory import peak_target, run_memory, saved_target
from benchmarks.outer_step import OuterStep, Usage, all_backends, memory_of

from savi.errors import InputError
from savi.gradients import BACKENDS, Reversible, StopGradient, Unrolled
from savi.report.table import plain_text

CONFIG = {
    "seed": 0,
    "batch": 4,
    "latent_dim": 2,
    "hidden": 32,
    "depth": 2,
    "activation": "softplus",
    "data_dim": 32,
    "gamma": 0.1,
    "samples": 2,
    "steps": [1, 6, 36],
    "lr": 1e-2,
    "momentum": 0.9,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    tables = run_memory(CONFIG, folder)
    usages = {}
    with (folder / "memory.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            numbers = (int(row[key]) for key in ("steps", "saved", "peak"))
            usages.setdefault(row["backend"], []).append(Usage(*numbers, float(row["seconds"])))
    return folder, [plain_text(table, 120) for table in tables], usages


def test_every_target_is_met(finished):
    usages = finished[2]
    assert set(usages) == set(all_backends())
    bits = math.log2(1 / 0.9) * 4 * 4
    peaks = {name: peak_target(name, usages, bits) for name in usages}
    saved = {name: saved_target(name, usages[name]) for name in usages}
    flat = {"stop", "one_step", "ift"}
    assert {name for name in saved if saved[name]} == flat
    with_peak = flat | {"reversible", "checkpointed every=sqrt"}
    assert {name for name in peaks if peaks[name]} == with_peak
    for target in (*peaks.values(), *saved.values()):
        assert target is None or target.met


def test_the_others_grow_as_they_should(finished):
    def growth(name, key):
        few, many = (getattr(usage, key) for usage in finished[2][name][1:])
        return many / few

    assert growth("unrolled", "peak") == pytest.approx(6.0, rel=0.3)
    assert growth("unrolled", "saved") == pytest.approx(6.0, rel=0.1)
    assert growth("truncated", "peak") == pytest.approx(1.0, abs=0.01)
    one, few, _ = finished[2]["truncated"]
    assert few.saved > 2 * one.saved
    # ⌊√36⌋ = 6 steps at a time instead of ⌊√6⌋ = 2, and the iterates.
    assert 1.5 < growth("checkpointed every=sqrt", "peak") < 3.0
    assert 1.0 < growth("checkpointed every=step", "peak") < 1.5


def test_the_files_and_the_tables(finished):
    folder, (peaks, saved), usages = finished
    assert sorted(path.name for path in folder.iterdir()) == ["memory.csv", "memory.png"]
    assert (folder / "memory.png").stat().st_size > 5000
    for text in (peaks, saved):
        assert sum("met" in line for line in text.splitlines()) >= 3
        assert "MISSED" not in text
        assert all(f" {name} " in text for name in usages)
    assert "K = 6 less bits" in peaks


def test_the_same_seed_gives_the_same_bytes(finished):
    problem = decoder_problem(CONFIG)
    for name in ("ift", "reversible"):
        usage = memory_of(OuterStep(problem, BACKENDS[name](), descent(CONFIG), 6))
        assert (usage.saved, usage.peak) == (finished[2][name][1].saved, finished[2][name][1].peak)


def test_watching_what_is_saved_does_not_change_the_peak():
    problem, optimizer = decoder_problem(CONFIG), descent(CONFIG)
    for backend in (Unrolled(), Reversible()):
        step = OuterStep(problem, backend, optimizer, 5)
        usage = memory_of(step)
        with LiveBytes() as memory:
            torch.autograd.grad(step.loss(), problem.weights)
        assert usage.peak == memory.peak


def test_each_storage_that_a_graph_keeps_counts_once():
    given = torch.ones(10, requires_grad=True)
    graph = SavedTensors()
    with graph.watched():
        forgotten = (given * 3.0).exp()
        del forgotten
        result = (given * 2.0).exp()  # keeps its result, 40 bytes
        value = (result * result + given.square()).sum()  # keeps it again
    assert graph.nbytes([]) == 80
    assert graph.nbytes([storage_of(given)]) == 40
    (gradient,) = torch.autograd.grad(value, given, create_graph=True)
    torch.testing.assert_close(gradient, torch.full((10,), 4.0 * math.exp(4.0) + 2.0))
    (second,) = torch.autograd.grad(gradient.sum(), given)
    torch.testing.assert_close(second, torch.full((10,), 16.0 * math.exp(4.0) + 2.0))
    del value, gradient
    assert graph.nbytes([]) == 0


def test_what_was_there_before_does_not_count():
    """``stop`` keeps what the outer loss needs, far less than weights and data."""
    problem = decoder_problem(CONFIG | {"hidden": 200, "depth": 1, "samples": 1, "batch": 1})
    usage = memory_of(OuterStep(problem, StopGradient(), descent(CONFIG), 1))
    weights = sum(parameter.nbytes for parameter in problem.model.parameters())
    assert 200 * 4 <= usage.saved < 0.2 * weights


def test_a_target_says_whether_it_is_met():
    assert str(Target(1.04, "K = 1", 1.05, 0.95)) == "1.04 × K = 1, 0.95 to 1.05: met"
    assert str(Target(0.94, "K = 1", 1.05, 0.95)) == "0.94 × K = 1, 0.95 to 1.05: MISSED"
    assert str(Target(2.5, "it", 2.0)) == "2.50 × it, at most 2: MISSED"
    assert str(Target(2.5, "it", math.inf, 2.0)) == "2.50 × it, at least 2: met"
    ahead = Target(-0.5, "it", math.inf, unit="nats over")
    assert str(ahead) == "-0.50 nats over it, at least 0: MISSED"
    assert Target(0.1, "it", 2.0).met
    assert not Target(float("nan"), "it", 2.0).met


def test_targets_see_growth():
    usages = {
        name: [Usage(steps, steps, 100 * steps, 0.0) for steps in (1, 10, 100)]
        for name in ("stop", "unrolled", "reversible", "checkpointed every=sqrt")
    }
    assert saved_target("stop", usages["stop"]).ratio == 100
    assert saved_target("reversible", usages["stop"]) is None
    for name in ("stop", "reversible", "checkpointed every=sqrt"):
        assert not peak_target(name, usages, 0.0).met
    # 80 bits a step, over 90 steps.
    assert peak_target("reversible", usages, 80.0).ratio == pytest.approx(9.1)
    assert peak_target("checkpointed every=sqrt", usages, 0.0).ratio == 10.0
    assert peak_target("unrolled", usages, 0.0) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [1, 10]}, r"steps is \[1, 10\]: give at least three rising numbers"),
        ({"steps": [1, 10, 10]}, "steps is .*: give at least three rising numbers"),
        ({"steps": [2, 10, 20]}, "steps is .*: give at least three rising numbers from 1"),
        ({"lr": 0.0}, "lr is 0.0: set it above 0"),
        ({"lr": 100.0}, r"lr 100.0 with momentum 0.9 ends the descent after \d+ of \d+ steps"),
        ({"momentum": 0.0}, "momentum is 0.0: set it above 0"),
        ({"momentum": 1.0}, "momentum is 1.0: set it above 0, .* and below 1"),
        ({"momentum": 2**-0.5}, "so round it, say to 0.707"),
        ({"gamma": 0.0}, "gamma is 0.0: set it above 0"),
        ({"batch": 0}, "batch is 0: set it to 1 or more"),
        ({"activation": "foo"}, "unknown activation 'foo'"),
    ],
)
def test_what_is_out_of_range_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_memory(CONFIG | change, tmp_path)
    assert list(tmp_path.iterdir()) == []
