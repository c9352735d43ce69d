"""The plan of an earlier start of a sweep, which may be torn, replaced or made up."""

import json
import os

import pytest

from savi.sweeps.plan import read_plan

PLAN = {
    "command": "savi-train -m seed=0,1", "swept": ["seed"], "trials": None,
    "jobs": [{"folder": "seed-0", "overrides": ["seed=0"]}],
}  # fmt: skip


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "sweep.json"
    for plan in (PLAN, PLAN | {"jobs": None, "trials": 5}):
        path.write_text(json.dumps(plan))
        assert read_plan(path) == plan


@pytest.mark.parametrize(
    "content",
    [
        None, "", "{", "[1]", {}, PLAN | {"jobs": 3}, PLAN | {"jobs": [3]},
        PLAN | {"jobs": [{"folder": 1}]}, PLAN | {"swept": "seed"}, PLAN | {"swept": [1]},
        PLAN | {"command": None},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_plan_counts_as_none(content, tmp_path):
    path = tmp_path / "sweep.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert read_plan(path) == {}


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "sweep.json")
    assert read_plan(tmp_path / "sweep.json") == {}
