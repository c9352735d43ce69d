import json

import pytest
from run_folders import write_run, write_sweep

from savi.errors import InputError
from savi.report.folders import find_runs


def test_a_sweep_tells_which_jobs_are_missing(tmp_path):
    found = find_runs([write_sweep(tmp_path / "s")])
    states = {run.name: run.state for run in found.runs}
    assert len(states) == 9
    assert states["rho-0.1_seed-1"] == "failed"
    assert states["rho-0.1_seed-2"] == "missing"
    assert sorted(states.values()).count("finished") == 7
    assert found.runs[2].overrides == ("inner.rho=0.1", "seed=2")
    assert found.sweeps[0].command == "savi-train -m inner.rho=0.1,1,100"


def test_runs_are_found_at_any_depth_and_not_inside_wandb(tmp_path):
    write_run(tmp_path / "top" / "a" / "b")
    write_run(tmp_path / "top" / "c")
    write_run(tmp_path / "top" / "c" / "wandb" / "x")
    write_run(tmp_path / "top" / ".hidden")
    assert [run.name for run in find_runs([tmp_path / "top"]).runs] == ["a/b", "c"]


def test_a_record_above_its_runs_is_no_run_beside_them(tmp_path):
    write_run(tmp_path / "job", metrics=None, curves=None)
    write_run(tmp_path / "job" / "seed-0")
    write_run(tmp_path / "job" / "seed-1")
    sweep = {"command": "", "jobs": [{"folder": "job", "overrides": []}]}
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    assert [run.name for run in find_runs([tmp_path]).runs] == ["job/seed-0", "job/seed-1"]


def test_names_are_in_natural_order_and_unique(tmp_path):
    for number in (10, 9, 1):
        write_run(tmp_path / "s" / f"{number}")
    write_run(tmp_path / "one" / "same")
    write_run(tmp_path / "two" / "same")
    assert [run.name for run in find_runs([tmp_path / "s"]).runs] == ["1", "9", "10"]
    twins = find_runs([tmp_path / "one" / "same", tmp_path / "two" / "same"]).runs
    assert len({run.name for run in twins}) == 2


def test_a_run_given_twice_is_read_once(tmp_path):
    run = write_run(tmp_path / "a")
    assert len(find_runs([run, tmp_path, run]).runs) == 1


def test_trials_that_have_not_started_are_counted(tmp_path):
    write_run(tmp_path / "s" / "0")
    (tmp_path / "s" / "sweep.json").write_text('{"command": "c", "jobs": null, "trials": 5}')
    found = find_runs([tmp_path / "s"])
    assert (len(found.runs), found.unstarted) == (1, 4)


def test_mistakes_are_told_in_a_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "sweep.json").write_text('{"jobs": [3]}')
    with pytest.raises(InputError, match="no run is given"):
        find_runs([])
    with pytest.raises(InputError, match=r"'.*nowhere' is no folder"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"there is no run in or below '.*empty'"):
        find_runs([tmp_path / "empty"])
    with pytest.raises(InputError, match="damaged"):
        find_runs([tmp_path / "bad"])
