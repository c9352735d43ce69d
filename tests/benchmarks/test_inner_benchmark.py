"""Inner optimisers on a trained VAE: what is counted, who wins, and what training costs."""

import csv
import math

import pytest
import torch
from benchmarks.images import read_images
from benchmarks.inner import run_inner
from benchmarks.inner.curves import curves
from benchmarks.inner.report import race_target
from benchmarks.inner.solves import (
    Finish,
    fastest,
    quantile,
    race,
    solve,
    speed_of,
    steps_needed,
    tuned,
)
from benchmarks.inner.training import PLAIN, TrainingStep, build_modules, groups_of, label
from benchmarks.timing import Timing
from benchmarks.trained import build_module, trained_batch

from savi.errors import InputError
from savi.inner import Adam, GradientDescent, LevenbergMarquardt
from savi.inner.optimizers import OPTIMIZERS
from savi.report.table import plain_text

MAP = {
    "posterior": "point_mass",
    "objective": "map",
    "optimizer": "levenberg_marquardt",
    "gradient": "ift",
    "encoder_loss": "distill",
}
ELBO = {
    "posterior": "diagonal_gaussian",
    "objective": "elbo",
    "samples": 2,
    "optimizer": "levenberg_marquardt",
    "gradient": "ift",
    "solver": "cholesky",
    "encoder_loss": "elbo_at_init",
}
CONFIG = {
    "seed": 0,
    "dataset": "digits",
    "data_path": None,
    "side": None,
    "batch": 20,
    "latent_dim": 3,
    "hidden": 16,
    "depth": 1,
    "activation": "softplus",
    "train_steps": 40,
    "checkpoint": None,
    "device": "cpu",
    "optimizers": None,
    "learning_rates": [1e-2, 1e-1],
    "sweep_examples": 8,
    "rtol": 1e-3,
    "max_steps": 120,
    "curve_steps": [0, 1, 2, 5, 10],
    "gammas": [0.1, 1.0, 10.0],
    "training": [MAP, ELBO],
    "training_max_steps": 20,
    "repetitions": 1,
}
COLUMNS = [
    "part", "optimizer", "lr", "gamma", "K", "evaluations", "seconds", "objective", "stationarity",
    "stationarity_95", "solved",
]  # fmt: skip
#: The optimisers that the MAP problem does not suit.
REFUSED = {"natural_gradient"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inner")
    tables = run_inner(CONFIG, folder)
    rows = {}
    for name in ("inner", "inner_training"):
        with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            rows[name] = list(csv.DictReader(file))
    return folder, [plain_text(table, 120) for table in tables], rows


@pytest.fixture(scope="module")
def batch():
    return trained_batch(CONFIG)


def part(finished, name, optimizer=None):
    return [
        row
        for row in finished[2]["inner"]
        if row["part"] == name and optimizer in (None, row["optimizer"])
    ]


def test_every_optimiser_is_measured_or_refused_with_a_reason(finished):
    assert list(finished[2]["inner"][0]) == COLUMNS
    kept = set(OPTIMIZERS) - REFUSED
    for name in ("sweep", "curve", "race", "gamma"):
        assert {row["optimizer"] for row in part(finished, name)} == kept
    for name in ("gd", "momentum", "adam"):
        assert [float(row["lr"]) for row in part(finished, "sweep", name)] in (
            [1e-2, 1e-1],
            [1e-1, 1e-2],
        )
    race_text = finished[1][1]
    assert all(f"{name} left out: " in race_text for name in REFUSED)


def test_the_curves_fall_and_count(finished):
    for row in part(finished, "curve"):
        assert float(row["stationarity"]) <= float(row["stationarity_95"])
        assert float(row["seconds"]) >= 0
    for name in ("gd", "adam"):
        rows = part(finished, "curve", name)
        assert [int(row["K"]) for row in rows] == CONFIG["curve_steps"]
        evaluations = [float(row["evaluations"]) for row in rows]
        # One code at the start and one after each step, and those of setting up.
        assert [e - evaluations[0] for e in evaluations] == CONFIG["curve_steps"]
    start, *_, end = part(finished, "curve", "levenberg_marquardt")
    assert float(start["stationarity"]) == float(start["stationarity_95"]) == 1.0
    assert float(end["stationarity"]) < 0.05
    assert float(end["objective"]) < float(start["objective"])
    # d tangents and the code itself, and a trial.
    assert float(end["evaluations"]) > 30


def test_the_race_ends_when_enough_are_solved(finished, batch):
    rows = {row["optimizer"]: row for row in part(finished, "race")}
    row = rows["levenberg_marquardt"]
    assert float(row["solved"]) >= 0.95
    count = int(row["K"])
    end = solve(LevenbergMarquardt(), batch, CONFIG["max_steps"], CONFIG["rtol"])
    assert steps_needed(end) == count
    shorter = solve(LevenbergMarquardt(), batch, count - 1, CONFIG["rtol"])
    assert steps_needed(shorter) is None
    assert (end.stationarity <= CONFIG["rtol"]).double().mean() >= 0.95
    for row in rows.values():
        assert float(row["seconds"]) > 0
        assert float(row["solved"]) >= 0.95 or int(row["K"]) == CONFIG["max_steps"]


def test_damped_newton_steps_need_no_tuning_when_gamma_changes(finished):
    rows = part(finished, "gamma", "levenberg_marquardt")
    assert [float(row["gamma"]) for row in rows] == CONFIG["gammas"]
    assert all(float(row["solved"]) >= 0.9 for row in rows)
    steps = [int(row["K"]) for row in rows if row["K"]]
    assert steps == sorted(steps, reverse=True)


def test_training_with_solved_inner_problems(finished):
    plain, point, elbo = finished[2]["inner_training"]
    assert plain["name"] == PLAIN
    assert float(plain["ratio"]) == 1.0
    assert plain["solved"] == plain["posterior"] == ""
    assert {key: point[key] for key in MAP} == MAP
    assert elbo["samples"] == "2"
    for row in (point, elbo):
        assert float(row["ratio"]) > 1.0
        assert 0.5 < float(row["solved"]) <= 1.0
        assert 1.0 <= float(row["steps"]) <= CONFIG["training_max_steps"]


def test_the_files_and_the_tables(finished):
    folder, (sweep, race_text, gamma, training), _ = finished
    names = ["inner.csv", "inner.png", "inner_training.csv"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "inner.png").stat().st_size > 5000
    assert "0.1: " in sweep
    assert "× adam, at most 0.2" in race_text
    assert gamma.count("%") >= 3 * (len(OPTIMIZERS) - len(REFUSED))
    assert " × plain, " in training


def test_the_best_step_size_comes_first(batch):
    told = []
    trials = tuned("gd", [1e-3, 1e-1, 10.0], batch, 200, 1e-3, told.append)
    assert trials[0].lr == 0.1
    assert trials[0].rank < trials[1].rank < trials[2].rank
    assert told == ["gd, lr 0.001", "gd, lr 0.1", "gd, lr 10"]
    (only,) = tuned("levenberg_marquardt", [1e-3, 1e-1], batch, 200, 1e-3, told.append)
    assert only.lr is None
    assert "Fisher" in tuned("natural_gradient", [0.1], batch, 200, 1e-3, told.append)


def test_a_curve_is_that_of_separate_runs(batch):
    optimizer = GradientDescent(lr=0.05)
    (moments,) = curves({"gd": optimizer}, batch, [0, 3, 7], 2).values()
    for moment in moments:
        end = solve(optimizer, batch, moment.steps, 0.0)
        assert moment.objective == pytest.approx(float(end.objective.mean()), rel=1e-5)
        most = float(quantile(end.stationarity, 0.95))
        assert moment.most == pytest.approx(most, rel=1e-3)


def test_quantiles_are_values_that_enough_do_not_exceed():
    values = torch.tensor([4.0, 1.0, math.nan, 3.0])
    assert quantile(values, 0.25) == 1.0
    assert quantile(values, 0.5) == 3.0
    assert quantile(values, 0.75) == 4.0
    assert quantile(values, 0.76) == math.inf


def finish(seconds, reached=True):
    return Finish(5, reached, 10.0, 1.0, 1.0, Timing(0.0, seconds))


def test_the_fastest_is_one_that_has_finished():
    finishes = {
        "adam": finish([4.0, 8.0, 6.0]),
        "newton": finish([1.0, 1.0, 1.0]),
        "gd": finish([0.5, 0.5, 0.5], reached=False),
    }
    assert fastest(finishes) == "newton"
    assert speed_of(finishes, "newton") == pytest.approx(1 / 6)
    assert math.isnan(speed_of(finishes, "gd"))
    assert race_target(finishes).met
    assert race_target({"adam": finish([1.0], reached=False)}) is None


def test_a_solve_that_never_ends_is_timed_to_the_last_step(batch):
    finishes = race(
        {"adam": Adam(lr=1e-6)}, batch, max_steps=5, rtol=1e-3, repetitions=1,
        advance=lambda name: None,
    )  # fmt: skip
    assert not finishes["adam"].reached
    assert finishes["adam"].steps == 5
    assert fastest(finishes) is None


def test_a_training_step_trains_encoder_decoder_and_gamma():
    images = read_images("digits", None, None, 0)
    module = build_module(CONFIG, images, **groups_of(MAP | {"gradient": "stop"}, 5, 1e-3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    step = TrainingStep(module, images.training_batches())
    step()
    changed = {n for n, v in module.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == set(before)
    assert 0.0 <= step.solved[0] <= 1.0
    assert 1.0 <= step.steps[0] <= 5.0


def test_a_configuration_has_a_name_and_groups():
    assert label(MAP) == "point_mass, map, levenberg_marquardt, ift, distill"
    assert "samples 2" in label(ELBO)
    groups = groups_of(ELBO, 7, 1e-2)
    assert groups["inner"] == {
        "max_steps": 7, "rtol": 1e-2, "objective": "elbo", "samples": 2,
        "optimizer": "levenberg_marquardt",
    }  # fmt: skip
    assert groups["gradient"] == {"name": "ift", "solver": "cholesky"}
    assert groups["encoder_loss"] == {"through": 0.0, "elbo_at_init": 1.0}
    images = read_images("digits", None, None, 0)
    assert list(build_modules(CONFIG, images)) == [PLAIN, label(MAP), label(ELBO)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizers": ["adam", "foo"]}, "unknown optimizer 'foo': choose one of adam"),
        ({"optimizers": ["gd"]}, r"optimizers is \['gd'\]: add adam"),
        ({"learning_rates": []}, r"learning_rates is \[\]: give numbers above 0"),
        ({"gammas": [0.0]}, r"gammas is \[0.0\]: give numbers above 0"),
        ({"rtol": 0.0}, "rtol is 0.0: set it between 0 and 1"),
        ({"curve_steps": [3, 1]}, r"curve_steps is \[3, 1\]: give rising numbers"),
        ({"sweep_examples": 21}, "sweep_examples is 21, above batch 20: lower it"),
        ({"max_steps": 0}, "max_steps is 0: set it to 1 or more"),
        ({"device": "foo"}, "unknown device 'foo'"),
        ({"training": [{"foo": 1}]}, "unknown key of training 'foo': choose one of encoder_loss"),
        ({"training": [MAP, MAP]}, "training has 'point_mass, map, .*' twice: leave one out"),
        ({"training": [MAP | {"gradient": "foo"}]}, "unknown gradient 'foo'"),
        ({"training": [MAP | {"objective": "foo"}]}, "unknown inner.objective 'foo'"),
        ({"training": [MAP | {"encoder_loss": "foo"}]}, "unknown encoder_loss 'foo'"),
        ({"training": [MAP | {"encoder_loss": "through"}]}, "sends no gradient to the encoder"),
        ({"dataset": "foo"}, "unknown data set 'foo'"),
        ({"batch": 4096}, "a batch of 4096 examples is asked for"),
    ],
)
def test_what_is_out_of_range_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_inner(CONFIG | change, tmp_path)
    assert list(tmp_path.iterdir()) == []
