import json
from datetime import datetime

import pytest

from savi.errors import InputError
from savi.gradients import ImplicitGradientError
from savi.runs.record import Interrupted, Origin, recorded, state_of


def record(folder):
    return json.loads((folder / "status.json").read_text())


def test_a_run_is_running_and_then_finished(tmp_path):
    with recorded(tmp_path, Origin("savi-train seed=1"), {"seed": 1}):
        assert (tmp_path / "config.yaml").read_text() == "seed: 1\n"
        assert record(tmp_path)["state"] == "running"
        assert record(tmp_path)["ended"] is None
    told = record(tmp_path)
    assert (told["state"], told["reason"]) == ("finished", None)
    assert told["command"] == "savi-train seed=1"
    assert datetime.fromisoformat(told["ended"]) >= datetime.fromisoformat(told["started"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InputError("inner.rho is 0:\n set it above 0"), "inner.rho is 0: set it above 0"),
        (
            FloatingPointError("the parameters became non-finite"),
            "the parameters became non-finite",
        ),
        (ImplicitGradientError("no solution"), "no solution"),
    ],
)
def test_a_failure_is_recorded_with_its_sentence(error, reason, tmp_path):
    with pytest.raises(type(error)), recorded(tmp_path, Origin(), {}):
        raise error
    assert record(tmp_path)["state"] == "failed"
    assert record(tmp_path)["reason"] == reason
    assert not (tmp_path / "error.txt").exists()


def test_an_unforeseen_error_leaves_its_traceback(tmp_path):
    with pytest.raises(KeyError), recorded(tmp_path, Origin(), {}):
        raise KeyError("lost")
    assert record(tmp_path)["reason"] == "KeyError: 'lost'"
    assert "test_record.py" in (tmp_path / "error.txt").read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt, lambda: Interrupted("folder")])
def test_ctrl_c_is_no_failure(error, tmp_path):
    with pytest.raises((KeyboardInterrupt, Interrupted)), recorded(tmp_path, Origin(), {}):
        raise error()
    assert state_of(tmp_path) == "interrupted"


def test_no_record_is_no_state(tmp_path):
    assert state_of(tmp_path) is None
    (tmp_path / "status.json").write_text("{")
    assert state_of(tmp_path) is None
