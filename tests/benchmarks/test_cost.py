"""The cost of outer steps on a trained VAE: what grows with K, what does not, and what is right."""

import csv
import math

import pytest
import torch
from benchmarks.cost import run_cost
from benchmarks.cost.report import exponent, linear
from benchmarks.cost.variants import PAIRED, Reference, Variant
from benchmarks.outer_step import OuterStep, all_backends, measure, memory_of, stable_descent
from benchmarks.trained import trained_batch

from savi.errors import InputError
from savi.gradients import Implicit, StopGradient, Unrolled
from savi.inner import LevenbergMarquardt
from savi.inner.optimizers import OPTIMIZERS
from savi.report.table import plain_text

CONFIG = {
    "seed": 1,
    "dataset": "digits",
    "data_path": None,
    "side": None,
    "batch": 6,
    "latent_dim": 3,
    "hidden": 16,
    "depth": 1,
    "activation": "softplus",
    "train_steps": 50,
    "checkpoint": None,
    "device": "cpu",
    "steps": [1, 4, 16],
    "long_steps": [4, 40],  # after one step nothing is solved, and nothing looked at closely
    "relative_lr": 1.0,
    "momentum": 0.5,
    "reference_examples": 4,
    "beside": "newton",
    "batches": [4, 8],
    "latent_dims": [2, 4],
    "growth_optimizers": ["momentum", "levenberg_marquardt"],
    "growth_steps": 3,
    "growth_train_steps": 5,
    "repetitions": 1,
}
COLUMNS = [
    "part", "backend", "optimizer", "K", "B", "d", "D", "seconds", "saved", "peak", "allocated",
    "error", "refusal",
]  # fmt: skip
#: The backends that differentiate the steps that were taken.
EXACT = (
    "unrolled",
    "checkpointed every=sqrt",
    "checkpointed every=step",
    "reversible",
    "finite_difference",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cost")
    tables = run_cost(CONFIG, folder)
    with (folder / "cost.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return folder, [plain_text(table, 120) for table in tables], rows


@pytest.fixture(scope="module")
def batch():
    return trained_batch(CONFIG)


def column(rows, part, backend, key, optimizer="momentum"):
    return [
        float(row[key])
        for row in rows
        if (row["part"], row["backend"], row["optimizer"]) == (part, backend, optimizer)
    ]


def test_every_variant_has_its_line(finished):
    rows = finished[2]
    assert list(rows[0]) == COLUMNS
    counts = {part: sum(row["part"] == part for row in rows) for part in {r["part"] for r in rows}}
    pairs = len(PAIRED) * 2
    assert counts == {
        "steps": 3 * len(all_backends()),
        "long": 2 * 3,
        "optimizers": 3 * len(PAIRED) * (len(OPTIMIZERS) - 1),
        "batch": 2 * pairs,
        "latent_dim": 2 * pairs,
    }
    assert {row["D"] for row in rows} == {"64"}
    assert {row["B"] for row in rows if row["part"] == "batch"} == {"4", "8"}
    assert {row["d"] for row in rows if row["part"] == "latent_dim"} == {"2", "4"}
    for row in rows:
        if row["refusal"]:
            assert row["optimizer"] in row["refusal"]
            assert row["seconds"] == row["saved"] == row["error"] == ""
        else:
            assert float(row["seconds"]) > 0
            assert int(row["peak"]) > 0
            assert row["allocated"] == ""
        measured = row["part"] in ("steps", "long", "optimizers") and not row["refusal"]
        assert (row["error"] != "") == measured


def test_only_the_unrolled_graph_grows(finished):
    rows = finished[2]
    one, four, sixteen = column(rows, "steps", "unrolled", "saved")
    assert 1.5 * one < four
    assert 2.5 * four < sixteen < 5.0 * four
    for backend in ("ift", "stop", "one_step"):
        few, many = column(rows, "long", backend, "saved")
        assert many <= 1.05 * few
        few, many = column(rows, "long", backend, "peak")
        assert many <= 1.05 * few


def test_the_error_falls_with_the_steps(finished):
    rows = finished[2]
    errors = column(rows, "steps", "unrolled", "error")
    assert errors[0] > errors[1] > 5.0 * errors[2] > 0.0
    for backend in EXACT:
        torch.testing.assert_close(
            column(rows, "steps", backend, "error"), errors, rtol=0.05, atol=1e-5
        )
    assert column(rows, "steps", "ift", "error")[-1] < 0.5 * errors[-1]
    assert column(rows, "steps", "stop", "error")[-1] > 0.05
    solved = column(rows, "optimizers", "ift", "error", "levenberg_marquardt")
    assert solved[-1] < 1e-2


def test_the_files_and_the_tables(finished):
    folder, texts, _ = finished
    names = ["cost.csv", "cost.png", "growth.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all((folder / name).stat().st_size > 5000 for name in names)
    seconds, peaks, errors, long, optimizers, growth = texts
    for text in (seconds, peaks, errors):
        assert all(f" {name} " in text for name in all_backends())
    assert "× stop, at most 1.15" in seconds
    assert long.count("× K = 4, at most 1.05: met") == 3
    assert "levenberg_marquardt, ift" in optimizers
    assert growth.count("linear growth, at most 1.1") == 2 + 4


def test_the_reference_is_what_a_solved_problem_gives(batch):
    reference = Reference(batch, 4)
    step = OuterStep(batch, Implicit(), LevenbergMarquardt(), 60)
    assert reference.error_of(step) < 1e-3
    double = OuterStep(batch.to(torch.float64), Implicit(), LevenbergMarquardt(), 60)
    assert reference.error_of(double) < 1e-8
    with pytest.raises(InputError, match="7 examples of a batch of 6"):
        Reference(batch, 7)
    for wrong in (StopGradient(), Unrolled()):
        assert reference.error_of(OuterStep(batch, wrong, LevenbergMarquardt(), 1)) > 1e-2


def test_the_step_size_is_that_of_the_sharpest_example(batch):
    momentum = stable_descent(batch, CONFIG)
    z = batch.start.clone().requires_grad_()
    mean = batch.model.decode(z)
    jacobian = torch.stack(
        [torch.autograd.grad(row.sum(), z, retain_graph=True)[0] for row in mean.T]
    )
    gram = torch.einsum("kbi,kbj->bij", jacobian, jacobian) / batch.model.gamma()
    sharpest = 1.0 + torch.linalg.eigvalsh(gram).max()
    assert 1.0 / momentum.lr == pytest.approx(float(sharpest), rel=1e-4)
    half = stable_descent(batch, CONFIG | {"relative_lr": 0.5})
    assert half.lr == pytest.approx(0.5 * momentum.lr)


def test_weights_and_data_do_not_count(batch):
    step = OuterStep(batch, StopGradient(), stable_descent(batch, CONFIG), 1)
    memory = memory_of(step)
    assert memory.allocated is None
    assert memory.peak == memory.live
    weights = sum(weight.nbytes for weight in batch.weights)
    # The gradients of the weights count, the weights do not.
    assert weights <= memory.peak < 2.5 * weights
    assert memory.saved < weights


def test_a_refusal_is_kept_and_the_others_go_on(batch):
    steps = {
        Variant("steps", "ift", name, 1, 6, 3, 64): OuterStep(batch, Implicit(), optimizer, 1)
        for name, optimizer in {
            "levenberg_marquardt": LevenbergMarquardt(),
            "natural_gradient": OPTIMIZERS["natural_gradient"](),
        }.items()
    }
    seen = []
    taken, refused = measure(steps, 1, seen.append).values()
    assert len(taken.timing.seconds) == 1
    assert refused.memory is refused.error is None
    assert "natural_gradient" in refused.timing.refusal
    assert len(seen) == 2 * 3


def test_exponents():
    sizes = [2, 8, 32]
    assert exponent(sizes, [3.0 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes, [7.0] * 3) == pytest.approx(0.0)
    assert linear(sizes, [1.0, 4.0, 16.0]).ratio == pytest.approx(1.0)
    assert linear(sizes, [1.0, 1.0, 8.0]).met
    assert not linear(sizes, [1.0, 8.0, 64.0]).met
    assert not math.isnan(linear(sizes, [1.0, 1.0, 1.0]).ratio)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [1]}, r"steps is \[1\]: give at least two rising numbers from 1 on"),
        ({"long_steps": [5, 1]}, r"long_steps is \[5, 1\]: give at least two rising"),
        ({"batches": [0, 4]}, r"batches is \[0, 4\]: give at least two rising"),
        ({"latent_dims": [2, 2]}, r"latent_dims is \[2, 2\]: give at least two rising"),
        ({"batches": [4, 4096]}, "a batch of 4096 examples is asked for, .* 'digits' has 180"),
        ({"relative_lr": 0.0}, "relative_lr is 0.0: set it above 0"),
        ({"momentum": 0.0}, "momentum is 0.0: set it above 0"),
        ({"momentum": 1.0}, "momentum is 1.0: set it above 0, .* and below 1"),
        ({"reference_examples": 7}, "reference_examples is 7, above batch 6: lower it"),
        ({"growth_optimizers": []}, r"growth_optimizers is \[\]: name at least one"),
        ({"growth_optimizers": ["foo"]}, "unknown optimizer of growth_optimizers 'foo'"),
        ({"beside": "foo"}, "unknown optimizer of beside 'foo'"),
        ({"repetitions": 0}, "repetitions is 0: set it to 1 or more"),
        ({"device": "foo"}, "unknown device 'foo': choose one of auto, cpu, cuda"),
        ({"dataset": "foo"}, "unknown data set 'foo'"),
    ],
)
def test_what_is_out_of_range_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_cost(CONFIG | change, tmp_path)
    assert list(tmp_path.iterdir()) == []
