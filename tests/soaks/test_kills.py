from pathlib import Path

import pytest
from soaks import kills, known
from soaks.programs import KINDS, RUNS, differences, finished

from savi.runs.record import read_record

pytestmark = pytest.mark.slow


def test_a_run_goes_on_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "ORDER", ("vae",))
    monkeypatch.setitem(KINDS, "vae", KINDS["savi_ift"])
    tally = known("kills").run(2, 1, tmp_path)
    assert (tally.tried, tally.faults) == (2, [])


def test_other_runs_are_told_apart(tmp_path):
    kind = KINDS["savi_ift"]
    for name, options in (("one", ()), ("other", ("seed=1",))):
        finished((*kind.arguments, *options), tmp_path / name)
    one, other = (tmp_path / name / RUNS for name in ("one", "other"))
    assert differences(one, one) == []
    found = differences(other, one)
    assert any("other weights in best.ckpt" in fault for fault in found)
    assert any("test/elbo" in fault for fault in found)
    (one / "status.json").write_text('{"state": "running"}')
    (one / ".best.ckpt.part").write_text("")
    assert {"is running", "has left .best.ckpt.part"} <= {
        fault.removeprefix(".: ") for fault in differences(one, one)
    }
    assert read_record(Path(other))["state"] == "finished"
