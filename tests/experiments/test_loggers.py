"""Where a run's figures go, read back from wandb's own files."""

import os
import signal
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from programs import finished, started
from wandb_runs import history_of, records_of, summary_of

from savi.errors import InputError
from savi.experiments.check_loggers import NAME_LENGTH, check_wandb
from savi.experiments.loggers import (
    TAG_LENGTH,
    build_loggers,
    finish,
    fitted,
    log_results,
    wandb_of,
)
from savi.report.wandb import AXES, EPOCH, INNER_STEP, STEP
from savi.runs.record import Origin


@pytest.fixture
def opened(config, tmp_path, monkeypatch):
    """Open the loggers of a run; those that a test leaves open are closed."""
    monkeypatch.chdir(tmp_path)
    opened_loggers = []

    def open_(name="run", *overrides, origin=None):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        made = build_loggers(config("experiment=vae", *overrides), folder, origin or Origin())
        opened_loggers.append(made)
        return made, wandb_of(made)

    yield open_
    for loggers in opened_loggers:
        finish(loggers, False)


def run_of(folder: Path) -> Path:
    (run,) = (folder / "wandb").glob("offline-run-*")
    return run


def test_a_run_keeps_its_config_and_its_origin(opened, config, tmp_path):
    origin = Origin("savi-train seed=3", "sweep-1", "inner.rho=1")
    _, logger = opened("run", "seed=3", "logger.tags=[mine,digits]", origin=origin)
    finish([logger], False)
    (run,) = records_of(run_of(tmp_path / "run"), "run")
    assert (run["project"], run["display_name"]) == ("savi", "unrolled_digits_run_seed-3")
    assert (run["run_group"], run["job_type"]) == ("sweep-1", "inner.rho=1")
    assert run["notes"] == "savi-train seed=3"
    assert set(run["tags"]) == {"mine", "digits", "unrolled", "diagonal_gaussian", "seed-3"}
    stored = summary_of(run_of(tmp_path / "run"))["config"]
    expected = config("experiment=vae", "seed=3", "logger.tags=[mine,digits]")
    # wandb keeps no empty group.
    del expected["data"]["options"]
    assert {key: stored[key] for key in expected} == expected


def test_outside_of_sweeps_seeds_are_a_group(opened, tmp_path):
    _, logger = opened()
    finish([logger], False)
    (run,) = records_of(run_of(tmp_path / "run"), "run")
    assert (run["run_group"], run["display_name"]) == ("unrolled_digits", "unrolled_digits_seed-0")
    assert run["job_type"] == "train"


def test_a_group_of_ones_own_comes_first(opened, tmp_path):
    _, logger = opened("run", "logger.group=mine", origin=Origin("", "sweep-1", ""))
    finish([logger], False)
    (run,) = records_of(run_of(tmp_path / "run"), "run")
    assert (run["run_group"], run["job_type"]) == ("mine", "train")


def test_long_names_are_cut_and_stay_apart(opened, tmp_path):
    long = [f"inner.rho={'1' * 200}{end}" for end in "ab"]
    for length in (TAG_LENGTH, NAME_LENGTH):
        cut = {fitted(text, length) for text in long}
        assert {len(text) for text in cut} == {length}
        assert len(cut) == 2
    assert fitted("short", TAG_LENGTH) == "short"
    _, logger = opened("run", f"logger.tags=[{'t' * 100}]", origin=Origin("", long[0], long[1]))
    finish([logger], False)
    (run,) = records_of(run_of(tmp_path / "run"), "run")
    assert (len(run["run_group"]), len(run["job_type"])) == (NAME_LENGTH, NAME_LENGTH)
    assert max(map(len, run["tags"])) == TAG_LENGTH


def test_every_curve_has_its_axis(opened, tmp_path):
    _, logger = opened()
    finish([logger], False)
    metrics = records_of(run_of(tmp_path / "run"), "metric")
    axes = {
        metric["glob_name"]: metric["step_metric"] for metric in metrics if "glob_name" in metric
    }
    assert axes.items() >= {f"{prefix}/*": axis for prefix, axis in AXES.items()}.items()
    assert (axes["train/*"], axes["val/*"], axes["inner_trace/*"]) == (STEP, EPOCH, INNER_STEP)
    (objective,) = [metric for metric in metrics if metric.get("name") == "val/elbo"]
    assert objective["step_metric"] == EPOCH
    assert objective["summary"] == {"max": True}


def test_the_curves_that_matter_most_are_the_first_by_name(opened, tmp_path):
    _, logger = opened()
    curves = ("cost/seconds", "val/elbo", "inner/improvement", "train/elbo", "train/kl")
    logger.log_metrics(dict(zip(curves, range(5), strict=True)), step=0)
    finish([logger], False)
    (row,) = history_of(run_of(tmp_path / "run"))
    # As wandb leet sorts them.
    panels = sorted(name for name in row if "/" in name)
    assert panels[:3] == [
        "Bound/1 val/elbo",
        "Bound/2 train/elbo",
        "Bound/3 gap closed by inner steps",
    ]
    assert [row[name] for name in panels[:3]] == [1, 3, 2]
    assert [row[name] for name in curves] == [0, 1, 2, 3, 4]
    axes = {m["name"]: m["step_metric"] for m in records_of(run_of(tmp_path / "run"), "metric")
            if "step_metric" in m and "name" in m}  # fmt: skip
    assert [axes[name] for name in panels[:3]] == [EPOCH, STEP, STEP]


def test_the_summary_has_the_best_bound_and_the_last_of_the_others(opened, tmp_path):
    _, first = opened("a")
    _, second = opened("b")
    for logger in (first, second):
        for epoch, value in enumerate((-5.0, -1.0, -3.0)):
            logger.log_metrics({"val/elbo": value, "train/elbo": value, "epoch": epoch}, step=epoch)
    log_results([first], {}, {"test/elbo": -2.0, "val/elbo": -1.0}, 3)
    finish([first], False)
    finish([second], True)
    summary = summary_of(run_of(tmp_path / "a"))["summary"]
    assert (summary["val/elbo"], summary["train/elbo"], summary["test/elbo"]) == (-1.0, -3.0, -2.0)
    interrupted = summary_of(run_of(tmp_path / "b"))["summary"]
    assert interrupted["val/elbo"] == {"max": -1.0}


def test_runs_that_are_open_together_get_their_own_metrics(opened, tmp_path):
    loggers = {name: opened(name)[1] for name in ("r0", "r1", "r2")}
    for step in range(3):
        for number, logger in enumerate(loggers.values()):
            logger.log_metrics({"train/elbo": 10.0 * number + step}, step=step)
    for number, logger in enumerate(loggers.values()):
        finish([logger], failed=number == 1)
    for number, name in enumerate(loggers):
        logged = [row["train/elbo"] for row in history_of(run_of(tmp_path / name))]
        assert logged == [10.0 * number + step for step in range(3)]
        assert summary_of(run_of(tmp_path / name))["exit_code"] == int(number == 1)


def test_the_next_job_of_a_process_gets_a_run_of_its_own(opened, tmp_path):
    for name in ("first", "second"):
        _, logger = opened(name)
        logger.log_metrics({"train/elbo": float(len(name))}, step=0)
        finish([logger], False)
    for name in ("first", "second"):
        (row,) = history_of(run_of(tmp_path / name))
        assert row["train/elbo"] == len(name)


@pytest.mark.parametrize("override", ["logger=csv", "logger.mode=disabled"])
def test_wandb_can_be_left_out(opened, tmp_path, override):
    loggers, logger = opened("run", override)
    assert logger is None
    assert len(loggers) == 1
    log_results(loggers, {}, {"test/elbo": 1.0}, 3)
    finish(loggers, False)
    assert not (tmp_path / "run" / "wandb").exists()
    assert not (tmp_path / "runs").exists()


def test_only_the_first_process_logs_to_wandb(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("savi.experiments.loggers.rank_zero_only.rank", 1)
    assert opened()[1] is None
    assert not (tmp_path / "run" / "wandb").exists()


def test_all_runs_can_be_read_through_the_shared_folder(opened, tmp_path):
    for name in ("a", "b"):
        finish(opened(name)[0], False)
    links = sorted((tmp_path / "runs" / "wandb").iterdir())
    assert all(path.is_symlink() for path in links)
    runs = {(tmp_path / name / "wandb").resolve() for name in "ab"}
    assert {path.resolve().parent for path in links} == runs
    assert {summary_of(path)["name"] for path in links} == {"unrolled_digits_seed-0"}


@pytest.mark.parametrize("project", ["a/b", "a:b", "", "x" * 129])
def test_names_that_wandb_refuses_are_refused_early(project):
    with pytest.raises(InputError, match=r"logger\.project is .*: give it 1 to 128 characters"):
        check_wandb("offline", project)


JOB = """
import sys, time
from pathlib import Path
from savi.runs.record import Origin
from savi.experiments.loggers import build_loggers, finish

config = {
    "seed": 0, "experiment": "vae", "data": {"name": "digits"}, "gradient": {"name": "stop"},
    "posterior": {"name": "laplace"},
    "logger": {"wandb": True, "project": "savi", "mode": "offline", "name": None, "group": None,
               "tags": [], "folder": "shared"},
}
Path("run").mkdir()
loggers = build_loggers(config, Path("run"), Origin())
failed = True
try:
    print("started", flush=True)
    if sys.argv[1] == "failed":
        raise FloatingPointError("not a number")
    if sys.argv[1] == "interrupted":
        time.sleep(60)
    failed = False
finally:
    finish(loggers, failed)
"""


#: What a job has in its environment: it is forked from a process that is older than a test.
SET = "import os\nos.environ.update({})\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "code", "state"),
    [
        pytest.param("finished", 0, "finished", marks=pytest.mark.long),
        pytest.param("failed", 1, "failed", marks=pytest.mark.long),
        ("interrupted", 1, "failed"),
    ],
)
def test_a_run_says_how_it_ended(end, code, state, tmp_path):
    process = started(JOB, end, cwd=tmp_path)
    assert process.pid is not None
    printed = tmp_path / "stdout.txt"
    while not printed.exists() or printed.read_text() != "started\n":
        assert process.is_alive()
        time.sleep(0.05)
    if end == "interrupted":
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
    process.join(timeout=60)
    assert process.exitcode is not None
    assert bool(process.exitcode) == bool(code)
    told = summary_of(run_of(tmp_path / "run"))
    assert (told["exit_code"], told["state"]) == (code, state)


def test_torch_is_not_disturbed(opened):
    state = torch.get_rng_state()
    opened()
    assert torch.get_rng_state().equal(state)


@pytest.fixture
def server():
    """One that knows nobody."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}", asked
        made.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("key", ["a" * 40, pytest.param("short", marks=pytest.mark.long)])
def test_a_key_that_nobody_knows_leads_to_an_offline_run(key, server, tmp_path):
    variables = {"HOME": str(tmp_path), "WANDB_BASE_URL": server[0], "WANDB_API_KEY": key}
    job = SET.format(variables) + JOB.replace('"offline"', '"online"')
    code, output = finished(job, "finished", cwd=tmp_path)
    started, warning = output.splitlines()
    assert (code, started) == (0, "started")
    assert warning.startswith("warning: wandb cannot be used online (")
    assert warning.endswith("'savi-report sync-help run' says how to upload it")
    (kept,) = (tmp_path / "run" / "wandb").glob("*run-*-*")
    assert summary_of(kept)["exit_code"] == 0
    assert ("/graphql" in server[1]) == (key != "short")


def test_an_offline_run_asks_nobody(server, tmp_path):
    job = SET.format({"WANDB_BASE_URL": server[0]}) + JOB
    code, output = finished(job, "finished", cwd=tmp_path)
    assert (code, output) == (0, "started\n")
    assert server[1] == []
    told = summary_of(run_of(tmp_path / "run"))
    assert (told["exit_code"], told["state"]) == (0, "finished")


def test_the_environment_chooses_the_mode(config, monkeypatch):
    assert config()["logger"]["mode"] == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert config()["logger"]["mode"] == "disabled"
    assert config("logger.mode=online")["logger"]["mode"] == "online"
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    with pytest.raises(InputError, match="unknown WANDB_MODE 'nonsense': choose one of disabled"):
        check_wandb(config()["logger"]["mode"], "savi")
    with pytest.raises(InputError, match=r"unknown logger\.mode 'x'"):
        check_wandb("x", "savi")


def test_a_mode_that_the_environment_contradicts_is_told(opened, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    opened("run", "logger.mode=offline")
    said = capsys.readouterr().err
    assert said.startswith("warning: logger.mode=offline counts, and not WANDB_MODE=disabled: ")
