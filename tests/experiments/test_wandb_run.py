"""What a wandb run is called, and the links to it."""

import pytest

from savi.experiments.loggers import link, tags


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
