"""Where a job stands among those of its sweep."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from savi.runs.record import Origin
from savi.sweeps.job import run_job
from savi.sweeps.position import position


@pytest.fixture
def sweep(tmp_path):
    """A sweep that has begun a minute ago."""

    def made(jobs: list[str] | None, trials: int | None = None, **states: tuple[str, int]) -> Path:
        listed = None if jobs is None else [{"folder": job, "overrides": []} for job in jobs]
        plan = tmp_path / "sweep.json"
        plan.write_text(json.dumps({"jobs": listed, "trials": trials}))
        now = datetime.now(UTC)
        os.utime(plan, (now.timestamp() - 60,) * 2)
        for job, (state, seconds) in states.items():
            (tmp_path / job).mkdir()
            ended = (
                None if state == "running" else f"{now - timedelta(seconds=seconds):%FT%T+00:00}"
            )
            record = {
                "state": state,
                "started": f"{now - timedelta(hours=1):%FT%T}",
                "ended": ended,
            }
            (tmp_path / job / "status.json").write_text(json.dumps(record))
        return tmp_path

    return made


def test_the_rest_takes_as_long_as_what_this_start_has_done(sweep):
    jobs = [f"job{n}" for n in range(12)]
    # An hour ago a job was done, and a minute is what two took.
    folder = sweep(jobs, job0=("finished", 3600), job1=("finished", 30), job2=("failed", 1))
    place = position(folder / "job2")
    assert (str(place), place.jobs) == (" 3/12", 12)
    assert place.left.total_seconds() == pytest.approx(9 * 30, rel=0.05)


def test_nothing_is_known_of_the_time_before_a_job_is_done(sweep):
    folder = sweep(["a", "b"], a=("running", 0))
    assert (str(position(folder / "a")), position(folder / "a").left) == ("1/2", None)


def test_trials_are_counted_as_they_come(sweep):
    folder = sweep(None, 30, a=("finished", 5), b=("running", 0))
    assert str(position(folder / "b")) == " 2/30"


def test_a_folder_without_a_sweep_has_none(sweep, tmp_path):
    assert position(tmp_path / "alone" / "a") is None
    assert position(sweep(["a"]) / "other") is None


def test_the_line_of_a_job_has_number_figure_and_time_left(sweep, capsys):
    folder = sweep(["a", "b", "c"], a=("finished", 20))
    config = {"optimized_metric": "val/elbo", "seed": 0}
    figures = {"val/elbo": -12.345}
    run_job(folder / "b", Origin("savi-train"), config, lambda *_: figures)
    begun, ended = capsys.readouterr().out.splitlines()
    assert begun.startswith("2/3 b: started, ")
    assert ended == "2/3 b: finished, val/elbo -12.35, 30 s left" or ended.endswith("31 s left")
