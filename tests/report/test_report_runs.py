import json
import shutil
from datetime import timedelta

import pytest
from run_folders import CONFIG, CURVES, METRICS, write_run

from savi.report.html import write_report
from savi.report.runs import is_run, read_run
from savi.runs.folder import claimed


def test_a_finished_run_is_read_whole(tmp_path):
    run = read_run(write_run(tmp_path / "a"), "a")
    assert (run.state, run.reason, run.command) == ("finished", "", "savi-train seed=0")
    assert run.duration == timedelta(hours=1, minutes=2)
    assert run.config == CONFIG
    assert run.metrics == METRICS
    assert set(run.curves) == {"train/elbo", "val/elbo", "inner/stationarity", "own/figure"}
    assert run.curves["train/elbo"].steps.tolist() == [1, 3, 5]
    assert [path.name for path in run.figures] == ["reconstructions.png"]
    assert run.faults == ()


@pytest.mark.parametrize(
    ("metrics", "state"),
    [(METRICS, "finished"), ({"val/elbo": 1.0}, "interrupted"), (None, "unknown")],
)
def test_without_a_record_the_files_tell_the_state(tmp_path, metrics, state):
    run = read_run(write_run(tmp_path / "a", metrics=metrics, state=None), "a")
    assert run.state == state
    assert run.duration is None


def test_a_running_run_has_no_duration(tmp_path):
    run = read_run(write_run(tmp_path / "a", metrics=None, state="running"), "a")
    assert run.state == "running"
    assert run.started is not None
    assert run.duration is None


def test_damaged_files_cost_their_own_part_alone(tmp_path):
    folder = write_run(tmp_path / "a", curves="epoch,step,val/elbo\n0,1,-\n")
    (folder / "status.json").write_text('{"state": "fin')
    (folder / "collapse.json").write_text("[]")
    run = read_run(folder, "a")
    assert run.state == "finished"
    assert run.metrics == METRICS
    assert run.curves == {}
    assert [fault.split()[0] for fault in run.faults] == [
        "status.json",
        "metrics.csv",
        "collapse.json",
    ]


def test_values_that_are_no_numbers_are_left_out(tmp_path):
    folder = write_run(tmp_path / "a")
    (folder / "metrics.json").write_text('{"test/elbo": NaN, "test/kl": "high", "test/nll": true}')
    run = read_run(folder, "a")
    assert list(run.metrics) == ["test/elbo"]
    assert run.metrics["test/elbo"] != run.metrics["test/elbo"]


@pytest.mark.parametrize("key", ["sentence", "reason"])
def test_the_verdict_on_collapse_is_read(tmp_path, key):
    folder = write_run(tmp_path / "a")
    record = {
        "kind": "v",
        "name": "bad local minimum",
        key: "2 of 3 are pruned",
        "kl_per_dimension": [1.0, 0.0, 0.0],
        "sigma_histogram": {"edges": [0.0, 0.5, 1.0], "counts": [1, 2]},
    }
    (folder / "collapse.json").write_text(json.dumps(record))
    verdict = read_run(folder, "a").verdict
    assert (verdict.kind, verdict.name, verdict.reason) == (
        "v",
        "bad local minimum",
        "2 of 3 are pruned",
    )
    assert verdict.kl_per_dimension == (1.0, 0.0, 0.0)
    assert len(verdict.sigma_edges) == len(verdict.sigma_counts) + 1


def test_the_traceback_of_an_unforeseen_error_is_read(tmp_path):
    folder = write_run(tmp_path / "a", state="failed", reason="RuntimeError: oh")
    (folder / "error.txt").write_text("Traceback\nRuntimeError: oh\n")
    assert read_run(folder, "a").traceback.startswith("Traceback")


def test_an_unknown_state_is_not_believed(tmp_path):
    folder = write_run(tmp_path / "a")
    (folder / "status.json").write_text('{"state": "<b>", "started": "yesterday"}')
    run = read_run(folder, "a")
    assert (run.state, run.started) == ("finished", None)


def test_what_counts_as_a_run(tmp_path):
    assert not is_run(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    assert not is_run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert is_run(tmp_path)


def test_a_run_whose_process_is_gone_has_failed(tmp_path):
    folder = write_run(tmp_path / "a", metrics=None, state="running")
    with claimed(folder, again=True):
        for path in write_run(tmp_path / "b", metrics=None, state="running").glob("*.json"):
            shutil.copy(path, folder)
        assert read_run(folder, "a").state == "running"
    run = read_run(folder, "a")
    assert run.state == "failed"
    assert "its process ended without a word" in run.reason


@pytest.mark.parametrize(
    ("end", "fault"), [("\n5,6,3", "cut short"), ("\n5,x,3\n", "'x' in column 'step'")]
)
def test_a_torn_file_of_curves_is_told(tmp_path, end, fault):
    folder = write_run(tmp_path / "a", curves=CURVES.strip() + end)
    (told,) = read_run(folder, "a").faults
    assert told.startswith("metrics.csv")
    assert fault in told


def test_whatever_stands_in_place_of_a_file_costs_its_own_part_alone(tmp_path):
    folder = write_run(tmp_path / "a")
    for name in ("metrics.csv", "collapse.json", "error.txt", ".lock"):
        (folder / name).unlink(missing_ok=True)
    (folder / "collapse.json").mkdir()
    (folder / ".lock").mkdir()
    (folder / "metrics.csv").symlink_to("metrics.csv")
    (folder / "figures" / "noise.png").write_bytes(bytes(range(256)))
    (folder / "figures" / "folder.png").mkdir()
    whole = (folder / "figures" / "reconstructions.png").read_bytes()
    (folder / "figures" / "torn.png").write_bytes(whole[:-20])
    with (folder / "error.txt").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(-5, 2)
        file.write(b"Error")
    (folder / "status.json").write_text('{"state": "running"}')
    run = read_run(folder, "a")
    assert (run.state, run.metrics, run.curves) == ("failed", METRICS, {})
    assert [path.name for path in run.figures] == ["reconstructions.png"]
    assert len(run.traceback) < 70_000
    assert run.traceback.endswith("Error")
    told = {fault.partition(" ")[0]: fault for fault in run.faults}
    assert told["metrics.csv"] == "metrics.csv is no file"
    assert told["collapse.json"] == "collapse.json is a folder"
    assert told["noise.png"] == "noise.png cannot be shown: it is no picture"
    assert {"folder.png", "torn.png"} <= told.keys()


def test_the_page_tells_of_what_is_torn(tmp_path):
    folder = write_run(tmp_path / "a", curves=CURVES.strip())
    page = write_report([folder], tmp_path / "report.html").read_text()
    assert "metrics.csv is cut short" in page
