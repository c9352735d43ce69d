"""Runs that have been stopped, and go on to the result that they would have had."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from programs import started, streams
from resumed_runs import Signals, assert_same_runs, differing

from savi.errors import InputError
from savi.experiments.checkpoint import DATA_KEY, read_checkpoint, write_checkpoint
from savi.experiments.run import train
from savi.runs.folder import LOCK
from savi.runs.record import Interrupted, Origin

# Lightning's own use of torch, where a run is resumed; any other warning fails these tests.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(r"ignore:.isinstance\(treespec, LeafSpec\).:FutureWarning"),
]

PROGRAM = "import savi.cli; savi.cli.train()"


def written(folder: Path) -> dict[Path, int]:
    """When each file of a run was last written; its lock is touched by whoever looks at it."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]
    return {path: path.stat().st_mtime_ns for path in files}


#: Killed in the n-th step.
KILLED = """
import os, signal
import savi.cli
from savi.training.module import SemiAmortizedVAE
step, left = SemiAmortizedVAE.training_step, STEP
def training_step(*args):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args)
SemiAmortizedVAE.training_step = training_step
savi.cli.train()
"""

#: Three steps in an epoch, the last of them on a smaller batch.
TINY = (
    "debug=quick", "logger=csv", "data.limit=40", "data.batch_size=16", "trainer.max_epochs=3",
    "trainer.log_every_n_steps=2", "model.hidden=4", "model.latent_dim=2", "inner.max_steps=3",
    "callbacks.figures=false", "evaluation.ais_examples=0", "evaluation.gap_examples=0",
    "evaluation.autoencoder_steps=0", "evaluation.importance_samples=8",
)  # fmt: skip

METHODS = {
    "ift": ("experiment=savi_ift",),
    "dequantised": ("experiment=vae", "trainer.check_val_every_n_epoch=2"),
    "warm starts": ("experiment=svi",),
    "when it pays": ("experiment=savi", "inner.when=auto", "trainer.max_epochs=5"),
    "step size": (
        "experiment=vae_svi",
        "inner.adapt_lr=true",
        "inner.optimizer=natural_gradient",
        "inner.lr=0.1",
    ),
    "hypergradient": ("experiment=hypergradient", "hypergradient.every_n_steps=2"),
    "schedule": ("experiment=vae", "optimizer.schedule=cosine", "model.kl.warmup_steps=7"),
    "learned variance": ("experiment=vae", "model.gamma.mode=learned"),
    "gradient check": ("callbacks.gradient_check_every_n_steps=4",),
    "accumulated": (
        "experiment=vae",
        "trainer.accumulate_grad_batches=2",
        "trainer.val_check_interval=2",
        "trainer.num_sanity_val_steps=1",
    ),
    "float64": ("experiment=laplace_ift", "trainer.precision=64-true"),
}

#: Those whose states the others have too.
LONG = {"dequantised", "step size", "learned variance", "gradient check", "schedule", "float64",
        "accumulated"}  # fmt: skip


@pytest.fixture
def stop(monkeypatch):
    return Signals(monkeypatch)


@pytest.fixture
def run(config, tmp_path, stop):
    """Train into a folder; a signal may come in the n-th step of this start."""

    def start(name: str, *overrides: str, stopped_in: int | None = None):
        stop.left = stopped_in
        values = config(*TINY, *overrides)
        if stopped_in is None:
            return train(values, tmp_path / name, Origin("savi-train"))
        with pytest.raises(Interrupted):
            train(values, tmp_path / name, Origin("savi-train", again="savi-train again"))
        return None

    return start


def status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[pytest.mark.long] * (m in LONG), id=m) for m in METHODS]
)
def test_a_run_goes_on_to_the_same_result(method, run, tmp_path):
    options = METHODS[method]
    run("whole", *options)
    # In the middle of the first epoch, and in the last step of the second.
    for stopped_in in (2, 4):
        run("stopped", *options, "resume=auto", stopped_in=stopped_in)
        assert status(tmp_path / "stopped")["state"] == "interrupted"
        assert status(tmp_path / "stopped")["reason"] == "stopped by SIGTERM"
    run("stopped", *options, "resume=auto")
    assert status(tmp_path / "stopped")["state"] == "finished"
    assert_same_runs(tmp_path / "stopped", tmp_path / "whole")


def test_random_states_are_those_of_the_uninterrupted_run(run, tmp_path, monkeypatch):
    """Also of Python and NumPy, which a module of the user's may draw from."""
    from savi.training.callbacks import EpochLines

    drawn = []
    monkeypatch.setattr(
        EpochLines,
        "on_train_epoch_end",
        lambda *_: drawn.append((np.random.rand(), torch.rand(()).item())),
    )
    np.random.seed(3)
    run("whole", "experiment=vae")
    whole, drawn[:] = list(drawn), []
    np.random.seed(3)
    run("stopped", "experiment=vae", "resume=auto", stopped_in=4)
    np.random.seed(4)
    torch.manual_seed(4)
    run("stopped", "experiment=vae", "resume=auto")
    assert drawn == whole


def test_early_stopping_is_kept(run, tmp_path):
    options = ("experiment=vae", "callbacks.early_stopping_patience=1", "optimizer.lr=0.3",
               "trainer.max_epochs=30")  # fmt: skip
    run("whole", *options)
    epochs = read_checkpoint(tmp_path / "whole/checkpoints/last.ckpt")["epoch"]
    assert epochs < 28
    run("stopped", *options, "resume=auto", stopped_in=4)
    run("stopped", *options, "resume=auto")
    assert_same_runs(tmp_path / "stopped", tmp_path / "whole")
    # It is over, though there are epochs left.
    (tmp_path / "stopped/metrics.json").unlink()
    run("stopped", *options, "resume=auto")
    assert_same_runs(tmp_path / "stopped", tmp_path / "whole")


def wait_until(process, condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.exitcode is None
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_killed_process_goes_on_to_the_same_result(tmp_path):
    """Killed while it trains, evaluates and draws."""
    options = (*TINY, "experiment=savi_ift", "callbacks.figures=true", "data.limit=100",
               "evaluation.autoencoder_steps=20")  # fmt: skip
    whole = started(PROGRAM, *options, "hydra.run.dir=whole", cwd=tmp_path)
    whole.join()
    assert whole.exitcode == 0, streams(tmp_path)
    weights = tmp_path / "killed/checkpoints/last.ckpt"

    def stage() -> str | None:
        try:
            return status(tmp_path / "killed")["stage"]
        except OSError:
            return None

    for moment in (weights.exists, lambda: stage() == "evaluation", lambda: stage() == "figures"):
        process = started(PROGRAM, *options, "hydra.run.dir=killed", "resume=auto", cwd=tmp_path)
        wait_until(process, moment)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert status(tmp_path / "killed")["state"] == "running"
    trained = weights.stat().st_mtime_ns
    process = started(PROGRAM, *options, "hydra.run.dir=killed", "resume=auto", cwd=tmp_path)
    process.join()
    assert process.exitcode == 0, streams(tmp_path)
    assert weights.stat().st_mtime_ns == trained
    assert_same_runs(tmp_path / "killed", tmp_path / "whole")
    pictures = [sorted(p.name for p in (tmp_path / run / "figures").iterdir())
                for run in ("killed", "whole")]  # fmt: skip
    assert pictures[0] == pictures[1]
    assert not list((tmp_path / "killed").rglob(".*.part"))


def test_more_epochs_continue_a_finished_run(run, tmp_path):
    run("whole", "experiment=vae", "trainer.max_epochs=4")
    run("longer", "experiment=vae", "trainer.max_epochs=2")
    left = sorted((tmp_path / "longer/checkpoints").iterdir())
    assert [path.name for path in left] == ["best.ckpt", "last.ckpt"]
    best, last = map(read_checkpoint, left)
    assert last["optimizer_states"][0]["state"]
    assert best["optimizer_states"] == []
    with pytest.raises(InputError, match=r"holds a run already .*resume=auto"):
        run("longer", "experiment=vae", "trainer.max_epochs=4")
    run("longer", "experiment=vae", "trainer.max_epochs=4", "resume=auto")
    assert_same_runs(tmp_path / "longer", tmp_path / "whole")


def test_a_finished_run_is_left_as_it_is(run, tmp_path, capsys):
    figures = run("run", "experiment=vae")
    before = written(tmp_path / "run")
    assert run("run", "experiment=vae", "resume=auto") == figures
    assert "had finished before" in capsys.readouterr().out
    assert written(tmp_path / "run") == before


def test_a_run_that_has_taken_its_steps_is_over(run, tmp_path, capsys):
    figures = run("run", "experiment=vae", "trainer.max_steps=4")
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 4
    assert run("run", "experiment=vae", "trainer.max_steps=4", "resume=auto") == figures
    assert "had finished before" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"another trainer\.max_steps: set it to 4 again"):
        run("run", "experiment=vae", "resume=auto")


def test_auto_begins_where_there_is_nothing(run, tmp_path):
    run("plain", "experiment=vae")
    run("auto", "experiment=vae", "resume=auto")
    assert_same_runs(tmp_path / "auto", tmp_path / "plain")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("optimizer.lr=0.1",), "another optimizer.lr: set it to 0.001 again"),
        (("seed=1",), "another data.seed: set it to 0 again"),
        (("callbacks.early_stopping_patience=2",), "another callbacks.early_stopping_patience"),
        (("trainer.max_epochs=1",), "is below the 2 epochs that the run"),
        (("resume=elsewhere.ckpt",), "holds a run already: to go on from 'elsewhere.ckpt'"),
    ],
)
def test_another_run_is_refused(overrides, message, run, tmp_path):
    run("run", "experiment=vae", "resume=auto", stopped_in=5)
    before = written(tmp_path / "run")
    with pytest.raises(InputError, match=message):
        run("run", "experiment=vae", "resume=auto", *overrides)
    assert written(tmp_path / "run") == before


def test_a_schedule_is_not_stretched(run):
    options = ("experiment=vae", "optimizer.schedule=cosine")
    run("run", *options, "trainer.max_epochs=2")
    with pytest.raises(InputError, match=r"laid over 2 epochs: set trainer\.max_epochs=2"):
        run("run", *options, "trainer.max_epochs=4", "resume=auto")


def test_other_data_are_refused(run, tmp_path):
    data = np.random.default_rng(0).normal(size=(2, 60, 3)).astype(np.float32)
    options = ("experiment=vae", "data=arrays", f"data.path={tmp_path / 'x.npy'}")
    np.save(tmp_path / "x.npy", data[0])
    run("run", *options, "resume=auto", stopped_in=2)
    np.save(tmp_path / "x.npy", data[1])
    with pytest.raises(InputError, match="data of 'arrays' are not those that the run"):
        run("run", *options, "resume=auto")


def test_a_folder_without_a_run_is_left_alone(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.json").write_text("precious")
    with pytest.raises(InputError, match=r"holds no run that could go on \(metrics.json\)"):
        run("run", "experiment=vae", "resume=auto")
    assert (tmp_path / "run/metrics.json").read_text() == "precious"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damaged", "from_epoch"),
    [
        (("last",), None),
        (("best",), 1),
        pytest.param(("last", "best"), 1, marks=pytest.mark.long),
        pytest.param(("best", "best.before"), 0, marks=pytest.mark.long),
        (("last", "best", "best.before"), 0),
    ],
    ids=str,
)
def test_a_damaged_checkpoint_is_named_and_another_used(damaged, from_epoch, run, tmp_path, capsys):
    """The best epoch is the last one, and a signal comes in the one after it."""
    run("whole", "experiment=vae")
    run("run", "experiment=vae", "resume=auto", stopped_in=8)
    for name in damaged:
        flip(tmp_path / f"run/checkpoints/{name}.ckpt")
    capsys.readouterr()
    run("run", "experiment=vae", "resume=auto")
    output, errors = capsys.readouterr()
    for name in damaged:
        assert f"{name}.ckpt' is damaged" in errors
    assert ("begun again" in errors) == (from_epoch == 0)
    assert ("gone on from the best one before it, epoch 1" in errors) == (from_epoch == 1)
    assert ("epoch 1/3" in output) == (from_epoch == 0)
    assert ("epoch 2/3" in output) == (from_epoch is not None)
    assert_same_runs(tmp_path / "run", tmp_path / "whole")


def test_a_best_epoch_that_is_damaged_is_the_last_one(run, tmp_path, capsys):
    run("run", "experiment=vae")
    whole = shutil.copytree(tmp_path / "run", tmp_path / "whole")
    flip(tmp_path / "run/checkpoints/best.ckpt")
    capsys.readouterr()
    run("run", "experiment=vae", "resume=auto", "trainer.max_epochs=3")
    output, errors = capsys.readouterr()
    assert "best.ckpt' is damaged" in errors
    assert "epoch 3/3" not in output
    for name in ("best", "last"):
        weights = (
            read_checkpoint(f / f"checkpoints/{name}.ckpt") for f in (tmp_path / "run", whole)
        )
        first, second = (contents["state_dict"] for contents in weights)
        assert not differing(first, second, name)
    assert (tmp_path / "run/metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()


@pytest.mark.parametrize("experiment", ["savi_ift", pytest.param("svi", marks=pytest.mark.long)])
def test_a_kill_within_an_epoch_costs_what_was_trained_since_the_last_checkpoint(
    experiment, tmp_path
):
    often = ("callbacks.checkpoint_every_n_minutes=1e-9", f"experiment={experiment}")
    whole = started(PROGRAM, *TINY, f"experiment={experiment}", "hydra.run.dir=whole", cwd=tmp_path)
    whole.join()
    assert whole.exitcode == 0, streams(tmp_path)
    code = KILLED.replace("STEP", "8")
    process = started(code, *TINY, *often, "hydra.run.dir=run", "resume=auto", cwd=tmp_path)
    process.join()
    assert process.exitcode == -signal.SIGKILL, streams(tmp_path)
    # The step at work is lost.
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 7
    process = started(PROGRAM, *TINY, *often, "hydra.run.dir=run", "resume=auto", cwd=tmp_path)
    process.join()
    assert process.exitcode == 0, streams(tmp_path)
    assert_same_runs(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("torn", ["config.yaml", "status.json", "metrics.json", "metrics.csv"])
def test_a_torn_file_does_not_stop_a_run(torn, run, tmp_path):
    run("whole", "experiment=vae")
    run("run", "experiment=vae", "resume=auto", stopped_in=5)
    file = tmp_path / "run" / torn
    file.write_bytes(file.read_bytes()[:-3] + b"\xff")
    run("run", "experiment=vae", "resume=auto")
    if torn != "metrics.csv":
        assert_same_runs(tmp_path / "run", tmp_path / "whole")


def test_a_checkpoint_is_gone_on_from_in_a_new_folder(run, tmp_path):
    run("whole", "experiment=vae")
    run("first", "experiment=vae", stopped_in=5)
    kept = (tmp_path / "first/checkpoints/last.ckpt").read_bytes()
    source = f"resume={tmp_path / 'first/checkpoints/last.ckpt'}"
    run("second", "experiment=vae", source, stopped_in=2)
    # The same command goes on with the new run, not with the old one again.
    assert read_checkpoint(tmp_path / "second/checkpoints/last.ckpt")["global_step"] == 7
    run("second", "experiment=vae", source)
    assert_same_runs(tmp_path / "second", tmp_path / "whole")
    assert (tmp_path / "first/checkpoints/last.ckpt").read_bytes() == kept
    run("third", "experiment=vae", f"resume={tmp_path / 'first'}")
    assert_same_runs(tmp_path / "third", tmp_path / "whole")
    with pytest.raises(InputError, match=r"'nowhere\.ckpt' does not exist"):
        run("fourth", "experiment=vae", "resume=nowhere.ckpt")


def test_a_run_goes_back_to_its_best_epoch(run, tmp_path):
    run("whole", "experiment=vae")
    run("run", "experiment=vae")
    best = tmp_path / "run/checkpoints/best.ckpt"
    run("run", "experiment=vae", f"resume={best}")
    assert_same_runs(tmp_path / "run", tmp_path / "whole")


def test_a_run_goes_on_without_the_optimiser_that_nobody_has_kept(run, tmp_path, capsys):
    options = ("experiment=vae", "callbacks.keep_optimizer=false", "trainer.max_epochs=2")
    run("first", *options)
    first = tmp_path / "first/checkpoints"
    best, kept = map(read_checkpoint, sorted(first.iterdir()))
    assert best["optimizer_states"] == kept["optimizer_states"] == []
    step = best["global_step"]
    capsys.readouterr()
    run("second", "experiment=vae", f"resume={first / 'best.ckpt'}")
    told = "which nothing has kept the state of the optimiser, which begins anew"
    assert capsys.readouterr().err.count(told) == 1
    last = read_checkpoint(tmp_path / "second/checkpoints/last.ckpt")
    (moments, *_) = last["optimizer_states"][0]["state"].values()
    assert moments["step"] == last["global_step"] - step == 9 - step
    # A run in its own folder comes to its own result instead.
    (first / "last.ckpt").unlink()
    run("first", *options[:2], "resume=auto")
    output, errors = capsys.readouterr()
    assert "begun again" in errors
    assert told not in errors
    assert "epoch 1/3" in output


def test_a_moved_folder_goes_on(run, tmp_path):
    run("whole", "experiment=vae")
    run("before", "experiment=vae", stopped_in=8)
    (tmp_path / "before").rename(tmp_path / "after")
    run("after", "experiment=vae", "resume=auto")
    assert_same_runs(tmp_path / "after", tmp_path / "whole")
    state = read_checkpoint(tmp_path / "after/checkpoints/last.ckpt")["callbacks"]
    assert "before" not in str(state)


def test_states_that_are_none_are_told_in_one_sentence(run, tmp_path):
    run("run", "experiment=vae", stopped_in=8)
    file = tmp_path / "run/checkpoints/last.ckpt"
    whole = read_checkpoint(file)

    def changed(**parts):
        write_checkpoint(file, {key: v for key, v in (whole | parts).items() if v is not None})
        run("run", "experiment=vae", "resume=auto")

    with pytest.raises(InputError, match=r"last.ckpt', which lacks .*KeyError: 'global_step'"):
        changed(global_step=None)
    with pytest.raises(InputError, match=r"which lacks what belongs to it .TypeError.: choose"):
        changed(loops=whole["loops"] | {"fit_loop": "1"})
    fitted = {name: value for name, value in whole[DATA_KEY].items() if name != "fingerprint"}
    with pytest.raises(InputError, match="is not a run's: it lacks fingerprint"):
        changed(**{DATA_KEY: fitted})
    (optimizer,) = whole["optimizer_states"]
    shape = optimizer["state"][0]["exp_avg"].shape
    for wrong in (torch.zeros(1), torch.zeros(shape).to_sparse()):
        moments = optimizer["state"][0] | {"exp_avg": wrong}
        states = optimizer | {"state": optimizer["state"] | {0: moments}}
        with pytest.raises(InputError, match="exp_avg of the optimiser is no tensor of the shape"):
            changed(optimizer_states=[states])
    moments = {name: value for name, value in optimizer["state"][0].items() if name != "exp_avg"}
    states = optimizer | {"state": optimizer["state"] | {0: moments}}
    with pytest.raises(InputError, match="the optimiser has no exp_avg of a parameter"):
        changed(optimizer_states=[states])
    (group,) = optimizer["param_groups"]
    states = optimizer | {"param_groups": [group | {"differentiable": True}]}
    with pytest.raises(InputError, match="differentiable of the optimiser is not False"):
        changed(optimizer_states=[states])
    for callback, key, value in (
        ("CostMonitor", "peak_memory_mb", "much"),
        ("CostMonitor", "seconds", {"a": 1}),
        ("BadSteps", "count", None),
        ("BestEpoch", "current_score", "high"),
    ):
        (name,) = (name for name in whole["callbacks"] if callback in name)
        other = whole["callbacks"][name] | {key: value}
        with pytest.raises(InputError, match=f"{key} of {callback} is of another kind"):
            changed(callbacks=whole["callbacks"] | {name: other})
    solves = whole["savi_training"]["solves"] | {"failed": "none"}
    with pytest.raises(InputError, match="failed of the inner solves are no counts"):
        changed(savi_training=whole["savi_training"] | {"solves": solves})
    (name,) = (name for name in whole["callbacks"] if "BestEpoch" in name)
    other = whole["callbacks"][name] | {"kth_best_model_path": "nowhere"}
    with pytest.raises(InputError, match="the epoch to beat is none of those that were kept"):
        changed(callbacks=whole["callbacks"] | {name: other})


def test_the_config_says_that_it_was_resumed(run, tmp_path):
    run("run", "experiment=vae", "resume=auto")
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["resume"] == "auto"
