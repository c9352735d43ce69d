"""What K inner steps cost to differentiate: bytes that grow or do not, and gradients that agree."""

import csv

import pytest
import torch
from benchmarks.decoder import decoder_problem
from benchmarks.outer_step import (
    SQRT,
    OuterStep,
    Usage,
    exact_gradient,
    relative_error,
    stable_descent,
)
from benchmarks.unrolling import backends, linear, run_unrolling, softmax_problem

from savi.errors import InputError
from savi.gradients import Implicit, StopGradient, Unrolled
from savi.report.table import plain_text

CONFIG = {
    "seed": 0,
    "rows": 8,
    "items": 16,
    "spread": 0.8,
    "batch": 3,
    "latent_dim": 2,
    "hidden": 16,
    "depth": 1,
    "activation": "softplus",
    "data_dim": 12,
    "gamma": 0.2,
    "samples": 2,
    "steps": [1, 8, 10, 20],
    "relative_lr": 1.0,
    "momentum": 0.5,
    "repetitions": 1,
}
PROBLEMS = {"Softmax problem": softmax_problem, "VAE's inner problem": decoder_problem}
#: The backends that differentiate the steps that were taken.
OF_THE_STEPS = ("unrolled", SQRT, "reversible")
FLAT = ("ift", "ift solver=cg")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unrolling")
    tables = run_unrolling(CONFIG, folder)
    with (folder / "unrolling.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return folder, [plain_text(table, 120) for table in tables], rows


def column(rows, problem, backend, key):
    return [
        float(row[key]) for row in rows if (row["problem"], row["backend"]) == (problem, backend)
    ]


def test_every_problem_backend_and_number_of_steps_has_its_line(finished):
    rows = finished[2]
    assert list(rows[0]) == ["problem", "backend", "K", "saved", "peak", "seconds", "error"]
    assert set(backends()) == {*OF_THE_STEPS, *FLAT}
    keys = [(row["problem"], row["backend"], int(row["K"])) for row in rows]
    assert sorted(keys) == sorted(
        (problem, backend, K)
        for problem in PROBLEMS
        for backend in backends()
        for K in (1, 8, 10, 20)
    )
    assert all(float(row["seconds"]) > 0 for row in rows)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_only_the_steps_cost_memory(finished, problem):
    def peaks(backend):
        return column(finished[2], problem, backend, "peak")

    for backend in FLAT:
        # After a single step nothing is solved, and nothing looked at closely.
        _, *later = peaks(backend)
        assert max(later) <= 1.05 * min(later)
    *_, few, many = peaks("unrolled")
    assert 1.7 < many / few < 2.0
    _, few, *_, many = peaks("reversible")
    assert many <= 1.2 * few
    assert peaks("reversible")[-1] < peaks(SQRT)[-1] < 0.6 * peaks("unrolled")[-1]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_error_falls_with_the_steps(finished, problem):
    errors = {name: column(finished[2], problem, name, "error") for name in backends()}
    assert errors["unrolled"][0] > 1e-2
    for backend in OF_THE_STEPS:
        torch.testing.assert_close(errors[backend], errors["unrolled"], rtol=1e-3, atol=1e-9)
    for backend in FLAT:
        assert errors[backend][-1] < 0.2 * errors["unrolled"][-1] < errors["unrolled"][0]
    torch.testing.assert_close(errors[FLAT[1]][-1], errors[FLAT[0]][-1], rtol=1e-3, atol=1e-9)


def test_the_files_and_the_tables(finished):
    folder, texts, _ = finished
    names = ["unrolling.csv", "unrolling.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "unrolling.png").stat().st_size > 5000
    for text in texts:
        assert all(f" {name} " in text for name in backends())
        assert text.count(": met") == len(backends())
        assert "K = 8 less bits" in text
    assert "8 rows of 16 items" in texts[0]
    assert "3 examples of 4 variational parameters" in texts[1]


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_implicit_differentiation_gives_the_jacobian_of_softmax(solver):
    problem = softmax_problem(CONFIG)
    optimizer = stable_descent(problem, CONFIG | {"momentum": 0.9})
    step = OuterStep(problem, Implicit(solver=solver, rtol=1e-10), optimizer, 400)
    solution = step.solve().value
    logits = problem.theta - problem.theta[:, -1:]
    torch.testing.assert_close(solution, logits[:, :-1], rtol=0, atol=1e-7)
    torch.testing.assert_close(step.gradient(), problem.exact(), rtol=1e-6, atol=1e-9)


def test_the_closed_form_is_the_gradient_of_softmax():
    problem = softmax_problem(CONFIG)
    loss = (problem.theta.softmax(dim=-1) @ problem.w).mean()
    torch.testing.assert_close(torch.autograd.grad(loss, problem.theta), problem.exact())
    logits = problem.theta - problem.theta[:, -1:]
    torch.testing.assert_close(problem.outer(logits[:, :-1]), loss)
    x = problem.theta.softmax(dim=-1)
    value = (x * problem.theta).sum(dim=-1) - (x * x.log()).sum(dim=-1)
    torch.testing.assert_close(problem.objective()(logits[:, :-1]), -value)


def test_the_gradient_of_the_decoder_is_more_than_the_direct_one():
    problem = decoder_problem(CONFIG).with_other_noise(CONFIG)
    optimizer = stable_descent(problem, CONFIG | {"momentum": 0.9})
    exact = exact_gradient(problem)
    unrolled = OuterStep(problem, Unrolled(), optimizer, 300).gradient()
    assert relative_error(unrolled, exact) < 1e-6
    direct = OuterStep(problem, StopGradient(), optimizer, 300).gradient()
    assert relative_error(direct, exact) > 1e-2
    torch.testing.assert_close(exact_gradient(problem), exact, rtol=0, atol=0)


def test_a_target_sees_what_is_not_linear():
    def usages(power):
        return [Usage(K, 0, 1000 + K**power, 0.0) for K in (1, 10, 100, 1000)]

    assert linear(usages(1)).ratio == pytest.approx(1.0)
    assert linear(usages(1)).met
    assert not linear(usages(2)).met
    assert str(linear(usages(1))).startswith("1.00 × bytes per step up to K = 100, 0.95 to 1.05")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [1, 10]}, r"steps is \[1, 10\]: give at least three rising numbers"),
        ({"steps": [1, 10, 20]}, r"steps is \[1, 10, 20\]: give at least four, such as"),
        ({"relative_lr": 0.0}, "relative_lr is 0.0: set it above 0"),
        (
            {"relative_lr": 100.0, "steps": [1, 2, 3, 60]},
            r"lr .* with momentum 0.5 ends the descent after \d+ of \d+ steps",
        ),
        ({"momentum": 0.0}, "momentum is 0.0: set it above 0"),
        ({"spread": 0.0}, "spread is 0.0: set it above 0"),
        ({"items": 1}, "items is 1: set it to 2 or more"),
        ({"rows": 0}, "rows is 0: set it to 1 or more"),
        ({"batch": 0}, "batch is 0: set it to 1 or more"),
        ({"repetitions": 0}, "repetitions is 0: set it to 1 or more"),
    ],
)
def test_what_is_out_of_range_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_unrolling(CONFIG | change, tmp_path)
    assert list(tmp_path.iterdir()) == []
