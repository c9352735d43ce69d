import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from savi.errors import InputError
from savi.runs.folder import claimed, clear, finished_metrics, is_claimed, make

CONFIG = {
    "seed": 0,
    "inner": {"rho": 1.0, "lr": None},
    "logger": {"wandb": True},
    "trainer": {"threads": 1},
}


def finished(folder, state="finished"):
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "status.json").write_text(json.dumps({"state": state}))
    (folder / "metrics.json").write_text('{"test/elbo": 1.5}')
    return folder


def test_a_finished_job_of_the_same_config_is_found(tmp_path):
    assert finished_metrics(finished(tmp_path / "a"), CONFIG) == {"test/elbo": 1.5}


def test_incidental_settings_and_new_keys_without_a_value_do_not_count(tmp_path):
    later = CONFIG | {"logger": {"wandb": False}, "trainer": {"threads": 2}, "new": None}
    later |= {"callbacks": {"figures": False, "early_stopping_patience": None}}
    assert finished_metrics(finished(tmp_path / "a"), later) is not None


def test_what_ends_a_training_earlier_counts(tmp_path):
    later = CONFIG | {"callbacks": {"early_stopping_patience": 3}}
    with pytest.raises(InputError, match=r"another callbacks\.early_stopping_patience"):
        finished_metrics(finished(tmp_path / "a"), later)


@pytest.mark.parametrize("state", ["failed", "interrupted", "running"])
def test_an_unfinished_job_is_not(state, tmp_path):
    assert finished_metrics(finished(tmp_path / "a", state), CONFIG) is None
    assert finished_metrics(tmp_path / "nothing", CONFIG) is None


def test_a_job_of_another_config_is_refused_and_kept(tmp_path):
    folder = finished(tmp_path / "a")
    with pytest.raises(InputError, match=r"another inner.rho: choose another hydra.sweep.dir"):
        finished_metrics(folder, CONFIG | {"inner": {"rho": 2.0, "lr": None}})
    assert (folder / "metrics.json").exists()


def test_an_unfinished_job_is_cleared_and_nothing_else(tmp_path):
    folder = finished(tmp_path / "a", "failed")
    (folder / "checkpoints").mkdir()
    (folder / "notes.txt").write_text("mine")
    with claimed(folder, again=True):
        assert (folder / "config.yaml").exists()
        clear(folder)
        assert sorted(p.name for p in folder.iterdir() if p.name != ".lock") == ["notes.txt"]


def test_a_folder_with_a_run_is_refused_unless_it_is_begun_again(tmp_path):
    folder = finished(tmp_path / "a")
    with (
        pytest.raises(InputError, match=r"holds a run already \(metrics.json, config.yaml"),
        claimed(folder, again=False),
    ):
        raise AssertionError
    assert (folder / "metrics.json").exists()


def test_a_folder_belongs_to_one_process(tmp_path):
    folder = tmp_path / "a"
    assert not is_claimed(folder)
    other = (
        "import sys; from pathlib import Path; from savi.runs.folder import claimed\n"
        f"with claimed(Path({str(folder)!r}), again=True): print('in')"
    )
    with claimed(folder, again=False):
        assert is_claimed(folder)
        process = subprocess.run(
            [sys.executable, "-c", other], capture_output=True, text=True, check=False
        )
    assert "another process is at work" in process.stderr
    assert process.stdout == ""
    assert not is_claimed(folder)


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("file", "File exists"),
        ("file/below", "Not a directory"),
        ("/dev/null/x", "Not a directory"),
        ("n" * 300, "File name too long"),
        ("/".join(["n" * 200] * 25), "File name too long"),
    ],
    ids=["file", "below a file", "device", "long name", "long path"],
)
def test_what_cannot_be_a_folder_is_refused(folder, problem, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=rf"hydra.run.dir '.*' cannot be used: {problem}: choose"):
        make(tmp_path / folder, "hydra.run.dir")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_path_that_leaves_no_room_for_its_files_is_refused(tmp_path):
    folder = tmp_path
    while len(str(folder)) < 3_850:
        folder = folder / ("n" * 180)
    folder = folder / ("n" * (4_080 - len(str(folder)) - 1))
    with pytest.raises(InputError, match="File name too long"):
        make(folder, "hydra.run.dir")


MAKES = """
import os, sys
from pathlib import Path
from savi.errors import InputError
from savi.runs.folder import make
os.getuid() or os.setuid(65534)
for name in sys.argv[1:]:
    try:
        make(Path(name), "hydra.run.dir")
    except InputError as error:
        print(error)
"""


def test_a_folder_of_another_user_is_refused(tmp_path):
    from programs import finished as program

    with tempfile.TemporaryDirectory() as name:
        closed = Path(name) / "closed"
        closed.mkdir(mode=0o555)
        Path(name).chmod(0o755)
        assert program(MAKES, str(closed), str(closed / "run"), cwd=tmp_path) == (
            0,
            f"hydra.run.dir '{closed}' cannot be written to: choose another folder\n"
            f"hydra.run.dir '{closed}/run' cannot be used: Permission denied: choose another "
            "folder\n",
        )
        assert list(closed.iterdir()) == []
