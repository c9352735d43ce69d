"""What a wandb run is called, and the links to it."""

import time

import pytest
from wandb_runs import records_of

from savi.experiments.loggers import link, start_run, tags
from savi.runs.record import Origin


def test_tags_name_the_method_once(config):
    values = config("experiment=vae") | {"experiment": "vae"}
    values["logger"]["tags"] = ["vae", ""]
    assert tags(values) == ["vae", "digits", "unrolled", "diagonal_gaussian", "seed-0"]


def test_links_to_runs_that_are_gone_are_removed(tmp_path):
    shared = tmp_path / "shared"
    for name in ("offline-run-1", "offline-run-2"):
        (tmp_path / name).mkdir()
        link(tmp_path / name, shared)
    (shared / "offline-run-3").mkdir()
    (shared / "notes").symlink_to("nowhere")
    (tmp_path / "offline-run-1").rmdir()
    (tmp_path / "offline-run-4").mkdir()
    link(tmp_path / "offline-run-4", shared)
    left = {"offline-run-2", "offline-run-3", "offline-run-4", "notes"}
    assert {path.name for path in shared.iterdir()} == left


def test_a_folder_that_cannot_hold_links_only_warns(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="no link to the wandb run"):
        link(tmp_path, tmp_path / "file" / "shared")


@pytest.mark.slow
def test_a_run_that_goes_on_is_the_same_run(config, tmp_path):
    values = config("experiment=vae", f"logger.folder={tmp_path / 'shared'}") | {
        "experiment": "vae"
    }
    for _ in range(2):
        start_run(values, tmp_path / "run", Origin()).finish()
        # They are called by the second.
        time.sleep(1)
    parts = sorted((tmp_path / "run/wandb").glob("offline-run-*"))
    first, second = (records_of(part, "run")[0] for part in parts)
    assert first["run_id"] == second["run_id"]
    # By which wandb appends it when the parts are synced.
    assert (first.get("resume"), second.get("resume")) == (None, True)
