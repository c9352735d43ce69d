"""How to upload offline runs later."""

import shlex

import pytest

from savi.errors import InputError
from savi.report.wandb import offline_runs, sync_help


def wandb_run(parent, name, synced=False):
    run = parent / f"offline-run-{name}"
    run.mkdir(parents=True)
    (run / f"run-{name}.wandb").write_bytes(b"")
    if synced:
        (run / f"run-{name}.wandb.synced").write_bytes(b"")
    return run


def paths_of(text):
    """The folders that the ``wandb sync`` command names."""
    command = text.split("  wandb sync ")[1].split("\n\n")[0]
    return shlex.split(command.replace("\\\n", " "))


def test_the_shared_folder_is_one_word(tmp_path):
    shared = tmp_path / "all runs"
    shared.mkdir()
    for name in ("a", "b"):
        run = wandb_run(tmp_path / name / "wandb", name)
        (shared / run.name).symlink_to(run)
    text = sync_help(shared)
    assert text.startswith(f"2 of 2 offline runs in {shared} to upload:\n")
    assert paths_of(text) == [str(shared)]
    for word in ("wandb login", "--project", "--entity", "--dry-run", "logger.mode=online"):
        assert word in text


def test_a_sweep_names_the_folders_of_its_jobs(tmp_path):
    for name in ("0", "1"):
        wandb_run(tmp_path / name / "wandb", name)
    wandb_run(tmp_path / "2" / "wandb", "2", synced=True)
    text = sync_help(tmp_path)
    assert text.startswith("2 of 3 offline runs")
    assert paths_of(text) == [str(tmp_path / name / "wandb") for name in ("0", "1")]


def test_a_run_and_a_link_to_it_are_one(tmp_path):
    run = wandb_run(tmp_path / "job" / "wandb", "a")
    (tmp_path / "a shared folder").mkdir()
    (tmp_path / "a shared folder" / run.name).symlink_to(run)
    assert offline_runs(tmp_path) == [run]


def test_uploaded_runs_are_left_out(tmp_path):
    wandb_run(tmp_path, "a", synced=True)
    assert sync_help(tmp_path) == (
        f"0 of 1 offline run in {tmp_path} to upload: all have been uploaded."
    )


def test_a_folder_without_runs_is_refused(tmp_path):
    (tmp_path / "offline-run-empty").mkdir()
    with pytest.raises(InputError, match="there is no offline wandb run in"):
        sync_help(tmp_path)
    with pytest.raises(InputError, match="there is no offline wandb run in"):
        sync_help(tmp_path / "nowhere")
