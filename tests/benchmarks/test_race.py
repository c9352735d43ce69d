"""The race in miniature, by a clock by which every training step takes a second."""

import csv
import json
import math
from copy import deepcopy
from functools import cache
from itertools import count

import pytest
import torch
from benchmark import main as benchmark
from benchmarks.harness import run_config
from benchmarks.images import read_images
from benchmarks.race import run_race
from benchmarks.race.finish import successor
from benchmarks.race.judge import Verdict
from benchmarks.race.methods import METHODS, VAES, Method
from benchmarks.race.run import Job, finished, marks_of, run_job
from benchmarks.trained import experiment_module, training_step

from savi.errors import InputError
from savi.report.table import plain_text

CONFIG = {
    "seed": 0, "threads": 1, "dataset": "digits", "data_path": None, "batch": 16, "latent_dim": 2,
    "hidden": 8, "sizes": [40], "methods": ["vae", "savi"], "seeds": 1, "marks": [2.0, 4.0, 7.0],
    "budget": None, "examples": 24, "samples": 8, "refined": 8, "processes": 1,
}  # fmt: skip
FIGURES = Verdict._fields


@pytest.fixture(autouse=True, scope="module")
def _composed_once():
    """A config takes longer to compose than a run in miniature."""
    known = cache(run_config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.trained.run_config", lambda words: deepcopy(known(tuple(words))))
        yield


class Cut(Exception):
    """What cuts a run off."""


def ticking(end=math.inf):
    """A second later at every look, until it is cut off."""
    looks = count()

    def clock():
        look = next(looks)
        if look >= end:
            raise Cut
        return float(look)

    return clock


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def by_steps(monkeypatch):
    """The race by such a clock; the list of the jobs that have been run."""
    done = []

    def run(job, config, folder):
        done.append(job)
        return run_job(job, config, folder, ticking())

    monkeypatch.setattr("benchmarks.race.run_job", run)
    return done


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs").mkdir()
    return tmp_path


def test_every_method_has_its_lines(by_steps, tmp_path):
    (table,) = run_race(CONFIG | {"methods": None, "marks": [2.0]}, tmp_path)
    rows = read(tmp_path / "race.csv")
    assert [row["method"] for row in rows] == list(METHODS)
    for row in rows:
        assert row["diverged"] == "False"
        assert row["best_so_far"] == row["test"]
        assert all(math.isfinite(float(row[name])) for name in FIGURES)
        assert 1 <= float(row["val_effective"]) <= 8
        assert float(row["active"]) in range(CONFIG["latent_dim"] + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "race.csv", "race.json", "race.png", "runs",
    ]  # fmt: skip
    assert not [path for path in (tmp_path / "runs").iterdir() if path.suffix != ".json"]
    text = plain_text(table, 120)
    assert all(name in text for name in METHODS)


def test_the_clock_runs_in_training_steps_alone(folder):
    rows = run_job(Job(40, "vae", 0), CONFIG, folder, ticking())
    assert [row.seconds for row in rows] == CONFIG["marks"]
    assert [row.steps for row in rows] == [2, 4, 7]
    assert finished(Job(40, "vae", 0), folder) == rows
    assert finished(Job(40, "vae", 1), folder) is None
    # Training moves the model, and every judgement sees another one.
    assert len({row.val for row in rows}) == 3


@pytest.mark.parametrize("method", ["vae_decay_cosine", "savi", "vae_cosine_laplace"])
@pytest.mark.parametrize("looks", [1, 9, 11])
def test_a_run_that_was_cut_off_takes_the_same_course(method, looks, folder):
    """In its first steps, at its second mark, and in the middle of its third epoch."""
    job = Job(40, method, 3)
    whole = run_job(job, CONFIG, folder, ticking())
    job.file(folder).unlink()
    with pytest.raises(Cut):
        run_job(job, CONFIG, folder, ticking(looks))
    assert finished(job, folder) is None
    assert job.file(folder, "ckpt").exists() == (looks > 4)
    assert run_job(job, CONFIG, folder, ticking()) == whole
    assert [path.name for path in (folder / "runs").iterdir()] == ["N40_" + method + "_3.json"]


def test_a_successor_goes_on_with_the_weights():
    """A Laplace posterior has no variances: of the encoder's last layer it takes the means."""
    method = METHODS["vae_cosine_laplace"]
    images = read_images("digits", None, None, 0, limit=40, batch_size=16)
    small = ["model.latent_dim=2", "model.hidden=8"]
    first = experiment_module([*method.overrides, *small], images, 0)
    second = successor(first, method.finish.overrides, images)
    x = images.held_out(8, "val")
    mean = first.family.mean(first.inference.start(x), first.vae)
    torch.testing.assert_close(second.inference.start(x), mean)
    assert second.family.name == "laplace"
    assert second.vae.decode(mean).equal(first.vae.decode(mean))


def test_a_finish_begins_at_its_part_of_the_budget(folder):
    """Of seven steps the last two; until then the two methods are the same."""
    plain, late = (
        run_job(Job(40, method, 0), CONFIG, folder, ticking())
        for method in ("vae_cosine", "vae_cosine_laplace")
    )
    assert [a.val == b.val for a, b in zip(plain, late, strict=True)] == [True, True, False]


def test_judging_changes_nothing(folder):
    often = run_job(Job(40, "savi", 0), CONFIG, folder, ticking())
    once = run_job(Job(40, "savi", 0), CONFIG | {"marks": [7.0]}, folder, ticking())
    assert once[0] == often[-1]


def test_seeds_differ_in_everything(folder):
    zero, one = (run_job(Job(40, "vae", seed), CONFIG, folder, ticking())[0] for seed in (0, 1))
    assert zero.val != one.val
    state = torch.get_rng_state()
    assert run_job(Job(40, "vae", 0), CONFIG, folder, ticking())[0] == zero
    assert torch.equal(torch.get_rng_state(), state)


def test_schedules():
    for name, method in METHODS.items():
        assert method.rate(0.0) == method.lr, name
        assert method.rate(0.5) == pytest.approx(method.lr * (0.5 if "cosine" in name else 1.0))
    assert METHODS["vae_cosine"].rate(1.1) == 0.0


@pytest.mark.parametrize(
    ("method", "weights"), [("vae_cosine", [1.0, 1.0]), ("vae_warmup_cosine", [1e-4, 2e-4])]
)
def test_a_warm_up_weighs_the_kl_term_by_the_step(method, weights, folder, monkeypatch):
    seen = []

    def step(module, optimizer, x, beta, **options):
        seen.append(beta)
        return training_step(module, optimizer, x, beta, **options)

    monkeypatch.setattr("benchmarks.race.training.training_step", step)
    (row,) = run_job(Job(40, method, 0), CONFIG | {"marks": [2.0]}, folder, ticking())
    assert seen == weights
    monkeypatch.undo()
    plain = run_job(Job(40, "vae_cosine", 0), CONFIG | {"marks": [2.0]}, folder, ticking())
    assert (row.val == plain[0].val) == (method == "vae_cosine")


def test_what_diverges_is_said_and_the_race_goes_on(by_steps, monkeypatch, tmp_path):
    wild = Method(VAES["vae_slow"].overrides, 1e20)
    monkeypatch.setitem(METHODS, "vae_slow", wild)
    marks = [1.0, 4.0, 7.0]
    (table,) = run_race(CONFIG | {"methods": ["vae", "vae_slow"], "marks": marks}, tmp_path)
    rows = [row for row in read(tmp_path / "race.csv") if row["method"] == "vae_slow"]
    assert [row["diverged"] for row in rows][-2:] == ["True", "True"]
    assert len({row["steps"] for row in rows[-2:]}) == 1
    assert all(math.isnan(float(row[name])) for name in FIGURES for row in rows[-2:])
    assert "Diverged: vae_slow (seed 0)." in " ".join(plain_text(table, 120).split())


def test_a_race_goes_on_with_what_is_missing(by_steps, tmp_path):
    run_race(CONFIG, tmp_path)
    first = read(tmp_path / "race.csv")
    Job(40, "savi", 0).file(tmp_path).unlink()
    by_steps.clear()
    run_race(CONFIG, tmp_path)
    assert by_steps == [Job(40, "savi", 0)]
    assert read(tmp_path / "race.csv") == first
    by_steps.clear()
    run_race(CONFIG | {"seeds": 2, "methods": ["vae"]}, tmp_path)
    assert by_steps == [Job(40, "vae", 1)]


def test_a_race_that_is_cut_off_has_the_lines_of_what_is_finished(monkeypatch, tmp_path):
    clocks = iter([ticking(), ticking(3)])
    monkeypatch.setattr("benchmarks.race.run_job", lambda *args: run_job(*args, next(clocks)))
    with pytest.raises(Cut):
        run_race(CONFIG, tmp_path)
    assert [row["method"] for row in read(tmp_path / "race.csv")] == ["vae"] * 3


def test_a_folder_of_another_race_is_refused(by_steps, tmp_path):
    run_race(CONFIG, tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"holds a race with another batch \(16, now 8\): choose"):
        run_race(CONFIG | {"batch": 8}, tmp_path)
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_a_run_of_a_method_that_has_changed_since_is_refused(by_steps, monkeypatch, tmp_path):
    run_race(CONFIG, tmp_path)
    monkeypatch.setitem(METHODS, "savi", METHODS["savi_cosine"])
    with pytest.raises(InputError, match=r"another method \(experiment=savi, lr 0.001, constant\)"):
        run_race(CONFIG, tmp_path)


@pytest.mark.slow
@pytest.mark.long
def test_processes_side_by_side_and_the_command_line(command, capsys, tmp_path):
    words = ["dataset=digits", "batch=16", "latent_dim=2", "hidden=8", "sizes=[40]", "seeds=1",
             "methods=[vae,savi,vae_cosine]", "marks=[0.01,0.02]", "examples=24",
             "samples=8", "refined=8", "hydra.run.dir=race"]  # fmt: skip
    command(benchmark, "race", *words, "processes=2")
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "Everything is in race"
    assert "40 images, savi, seed 0: " in out
    rows = read(tmp_path / "race" / "race.csv")
    assert [row["method"] for row in rows[::2]] == ["vae", "savi", "vae_cosine"]
    assert all(float(row["seconds"]) >= float(row["mark"]) for row in rows)
    settings = json.loads((tmp_path / "race" / "race.json").read_text())
    assert settings["batch"] == 16
    # All is there: nothing is run again, whatever the number of processes.
    command(benchmark, "race", *words)
    assert "seed 0" not in capsys.readouterr().out.split("Log-likelihood")[0]


def test_budgets_depend_on_the_size():
    config = {"marks": [5.0, 60.0, 150.0, 600.0], "budget": None}
    ends = [marks_of(size, config)[-1] for size in (300, 1_000, 3_000, 10_000, 50_000)]
    assert ends == [60.0, 60.0, 150.0, 150.0, 600.0]
    assert marks_of(300, config | {"budget": 150.0}) == [5.0, 60.0, 150.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["vae", "foo"]}, "unknown method 'foo': choose one of .*savi.*vlae"),
        ({"methods": []}, r"methods is \[\]: name at least one"),
        ({"methods": ["savi"]}, r"methods is \['savi'\]: add one of vae, vae_slow"),
        ({"methods": ["vae", "savi", "vae"]}, "methods has 'vae' twice"),
        ({"marks": []}, r"marks is \[\]: give rising numbers above 0"),
        ({"marks": [2.0, 1.0]}, r"marks is \[2.0, 1.0\]: give rising numbers above 0"),
        ({"marks": [0.0, 1.0]}, "marks begins at 0: begin above 0"),
        ({"budget": 1.0}, "marks begins at 2, above the 1 s for 40 images: lower it, or raise"),
        ({"budget": 0.0}, "budget is 0.0: set it above 0"),
        ({"sizes": [60, 40]}, r"sizes is \[60, 40\]: give rising numbers from 1 on"),
        ({"sizes": [20]}, "examples is 24, above the 20 images of the smallest size"),
        ({"sizes": [40, 5_000]}, "sizes ends at 5,000, and 'digits' has 1,437 training images"),
        ({"refined": 25}, "refined is 25, above examples 24: lower it"),
        ({"examples": 500, "sizes": [600]}, "a batch of 500 examples .* validation split"),
        ({"processes": 0}, "processes is 0: set it to 1 or more"),
        ({"dataset": "foo"}, "unknown data set 'foo'"),
    ],
)
def test_what_is_out_of_range_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_race(CONFIG | change, tmp_path)
    assert not list(tmp_path.iterdir())
