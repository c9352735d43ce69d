"""Whole sweeps, as a user starts them."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from programs import finished, finished_alone
from resumed_runs import Signals, assert_same_runs

from savi.cli import train
from savi.config.store import conf_dir
from savi.report.folders import find_runs
from savi.report.settings import compare
from savi.runs.folder import claimed
from savi.runs.record import Origin, recorded

pytestmark = pytest.mark.slow

PROGRAM = "import savi.cli; savi.cli.train()"

TINY = (
    "debug=quick", "data.limit=40", "trainer.max_epochs=1", "model.hidden=8", "model.latent_dim=2",
    "inner.max_steps=4", "evaluation.ais_examples=0", "evaluation.gap_examples=0",
    "evaluation.autoencoder_steps=0", "callbacks.figures=false", "logger=csv",
)  # fmt: skip


@pytest.fixture
def sweep(command, capsys, tmp_path):
    """Start a sweep into ``tmp_path/sweep``; returns its exit code and what it printed."""

    def start(*overrides: str) -> tuple[int, str]:
        code = 0
        try:
            command(train, "-m", *TINY, "hydra.sweep.dir=sweep", *overrides)
        except SystemExit as exit_:
            code = exit_.code
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return start


@pytest.fixture
def process(tmp_path):
    """The same in a process of its own, for plugins with warnings that are not ours."""

    def start(*overrides: str) -> tuple[int, str]:
        arguments = ("-m", *TINY, "hydra.sweep.dir=sweep", *overrides)
        return finished(PROGRAM, *arguments, cwd=tmp_path)

    return start


def states(folder: Path) -> dict[str, str]:
    return {
        path.parent.name: json.loads(path.read_text())["state"]
        for path in sorted(folder.glob("*/status.json"))
    }


def test_a_sweep_survives_its_jobs_and_is_taken_up_again(sweep, tmp_path):
    folder = tmp_path / "sweep"
    code, out = sweep("seed=0,1", "inner.rho=1,-1")
    assert code == 1
    assert states(folder) == {
        "inner.rho--1_seed-0": "failed",
        "inner.rho--1_seed-1": "failed",
        "inner.rho-1_seed-0": "finished",
        "inner.rho-1_seed-1": "finished",
    }
    reason = json.loads((folder / "inner.rho--1_seed-0" / "status.json").read_text())["reason"]
    assert reason == "inner.rho is -1.0: set it above 0"
    assert "2 finished, 2 failed; savi-report sweep shows all" in out
    # The output of a job is its own.
    logs = {path.parent.name: path.read_text() for path in folder.glob("*/log.txt")}
    assert "epoch 1/1" in logs["inner.rho-1_seed-0"]
    assert "epoch 1/1" not in out

    weights = folder / "inner.rho-1_seed-0" / "checkpoints" / "best.ckpt"
    before = weights.stat().st_mtime_ns
    code, out = sweep("seed=0,1", "inner.rho=1,-1")
    assert out.count("finished before, skipped") == 2
    # As it happens, and once more at the end.
    assert out.count("failed: inner.rho is -1.0") == 4
    assert weights.stat().st_mtime_ns == before

    # A job that was stopped after its training is evaluated, into the same folder.
    status = folder / "inner.rho-1_seed-0" / "status.json"
    status.write_text(json.dumps({"state": "running"}))
    figures = folder / "inner.rho-1_seed-0" / "metrics.json"
    evaluated = figures.stat().st_mtime_ns
    code, out = sweep("seed=0,1", "inner.rho=1")
    assert out.count(": taken up again") == 1
    assert weights.stat().st_mtime_ns == before
    assert figures.stat().st_mtime_ns > evaluated
    # One that was stopped before its first checkpoint is run again.
    status.write_text(json.dumps({"state": "running"}))
    shutil.rmtree(weights.parent)
    code, out = sweep("seed=0,1", "inner.rho=1")
    assert out.count(": started") == 1
    assert weights.stat().st_mtime_ns > before
    rows = (folder / "inner.rho-1_seed-0" / "metrics.csv").read_text().splitlines()
    assert rows.count(rows[0]) == 1

    # More values: the earlier jobs are found.
    code, out = sweep("seed=0,1,2", "inner.rho=1,2")
    assert out.count("finished before, skipped") == 2
    plan = json.loads((folder / "sweep.json").read_text())
    assert len(plan["jobs"]) == 8


def test_another_config_does_not_touch_a_finished_sweep(sweep, tmp_path):
    assert sweep("seed=0,1")[0] == 0
    kept = (tmp_path / "sweep" / "seed-0" / "metrics.json").read_text()
    plan = (tmp_path / "sweep" / "sweep.json").read_text()
    code, out = sweep("seed=0,1,2", "inner.max_steps=3")
    assert code == 2
    assert out == (
        "savi: the sweep in 'sweep' was begun with inner.max_steps=4 and would go on with "
        "inner.max_steps=3: keep the old value, sweep over it, or choose another hydra.sweep.dir\n"
    )
    assert (tmp_path / "sweep" / "sweep.json").read_text() == plan
    assert not (tmp_path / "sweep" / "seed-2").exists()
    assert (tmp_path / "sweep" / "seed-0" / "metrics.json").read_text() == kept
    assert (
        "max_steps=3" not in json.loads((tmp_path / "sweep" / "sweep.json").read_text())["command"]
    )


def test_a_longer_training_is_a_sweep_of_its_own(sweep, tmp_path):
    """What is swept may change, in values and in keys; what is not may not."""
    assert sweep("seed=0,1", "inner.rho=1")[0] == 0
    # Only new jobs, which nothing in a folder of their own could contradict.
    code, out = sweep("seed=2,3", "inner.rho=1", "trainer.max_epochs=2")
    assert (code, out.count(": started")) == (2, 0)
    assert "trainer.max_epochs=1 and would go on with trainer.max_epochs=2" in out
    # A value that had been the default's, and one of a group.
    code, out = sweep("seed=0,1,2", "inner.rho=1", "optimizer.lr=0.01", "model.kl.weight=2")
    assert code == 2
    assert "model.kl.weight=1.0, optimizer.lr=0.001 and would go on with" in out
    assert "with model.kl.weight=2.0, optimizer.lr=0.01: keep the old value" in out
    # A key that was not swept before is swept from now on; logging is no setting.
    code, out = sweep("seed=0", "inner.rho=1,2", "logger.project=other")
    assert code == 0, out
    assert out.count(": started") == 2
    assert sweep("seed=0,1", "inner.rho=3")[0] == 0


def strip(folder: Path, *keys: str) -> None:
    """Have the configs of a sweep's jobs lack keys, as a version without them would leave them."""
    for file in folder.glob("*/config.yaml"):
        config = yaml.safe_load(file.read_text())
        for key in keys:
            *groups, last = key.split(".")
            node = config
            for group in groups:
                node = node[group]
            del node[last]
        file.write_text(yaml.safe_dump(config))


def test_a_sweep_of_an_earlier_version_is_taken_up_again(sweep, tmp_path):
    """A key that came later had its default before, also where ``conf/`` makes it another."""
    assert sweep("inner.rho=1,2", "inner.optimizer=gd", "inner.lr=0.1")[0] == 0
    younger = ("inner.linear_head", "evaluation.ais_steps", "hypergradient", "inner.samples")
    strip(tmp_path / "sweep", *younger)
    same = ("inner.rho=1,2,3", "inner.optimizer=gd", "inner.lr=0.1")
    code, out = sweep(*same)
    assert code == 0, out
    assert (out.count("skipped"), out.count(": started")) == (2, 1)
    # The younger one is no other setting for what the others lack.
    found = compare(find_runs([tmp_path / "sweep"]).runs)
    assert found.differing == ("inner.rho",)
    # Set to what was meant anyway, or to something else.
    for values, expected in (
        (("inner.linear_head=auto",), 0),
        (("inner.linear_head=off",), 2),
        (("evaluation.ais_steps=500",), 2),
        (("hypergradient.solver=minres",), 2),
    ):
        code, out = sweep(*same, *values)
        assert code == expected, out
    assert (
        "begun with hypergradient.solver=cg and would go on with hypergradient.solver=minres" in out
    )


def test_the_best_is_a_setting_and_not_a_lucky_seed(sweep, tmp_path):
    code, out = sweep("seed=0,1", "optimizer.lr=0.001,0.1", "optimized_metric=test/nll")
    assert code == 0
    means = {}
    for lr in ("0.001", "0.1"):
        folders = [tmp_path / "sweep" / f"optimizer.lr-{lr}_seed-{seed}" for seed in (0, 1)]
        figures = [json.loads((f / "metrics.json").read_text())["test/nll"] for f in folders]
        means[lr] = sum(figures) / 2
    assert means["0.001"] != means["0.1"]
    best = min(means, key=means.__getitem__)
    assert f"best test/nll: lr={float(best):g}, mean {means[best]:.6g} ± " in out
    assert "nats (95 % t-interval over 2 seeds): savi-train debug=quick" in out


def test_a_diverged_job_is_recorded(sweep, tmp_path):
    code, out = sweep("optimizer.lr=1e-3,1e30", "experiment=vae", "trainer.max_epochs=3")
    assert code == 1
    (status,) = (tmp_path / "sweep").glob("optimizer.lr-1e+30/status.json")
    told = json.loads(status.read_text())
    assert told["state"] == "failed"
    assert "training steps of an epoch had to be left out" in told["reason"]
    assert "at step 1 in epoch 2" in told["reason"]
    assert "1 finished, 1 failed" in out


def test_several_devices_in_a_sweep_are_refused(command, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        command(train, "-m", *TINY, "trainer=ddp", "seed=0,1")
    assert exit_.value.code == 2
    assert "trainer.devices above 1 in a sweep" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_job_goes_on(sweep, tmp_path, monkeypatch):
    signals = Signals(monkeypatch)
    long = ("trainer.max_epochs=3", "data.batch_size=16")
    assert sweep("seed=0,1", *long)[0] == 0
    (tmp_path / "sweep").rename(tmp_path / "whole")
    # In the second epoch of the second job.
    signals.left = 9 + 5
    code, out = sweep("seed=0,1", *long)
    assert code == 143
    assert states(tmp_path / "sweep") == {"seed-0": "finished", "seed-1": "interrupted"}
    assert "seed-1: interrupted" in out
    *_, last = out.rstrip().splitlines()
    assert last.startswith("savi: interrupted; to go on: savi-train -m debug=quick ")
    assert last.endswith(" hydra.sweep.dir=sweep")
    code, out = sweep("seed=0,1", *long)
    assert (code, out.count("seed-1: taken up again")) == (0, 1)
    for job in ("seed-0", "seed-1"):
        assert_same_runs(tmp_path / "sweep" / job, tmp_path / "whole" / job)
    # What was printed before is kept.
    log = (tmp_path / "sweep/seed-1/log.txt").read_text()
    assert re.findall(r"epoch (\d)/3", log) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "torn",
    [
        "status.json",
        "last.ckpt",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("config.yaml", "metrics.json")),
    ],
)
def test_an_unreadable_file_makes_a_job_unfinished(torn, sweep, tmp_path):
    assert sweep("seed=0,1", "experiment=vae")[0] == 0
    job = tmp_path / "sweep/seed-1"
    before = json.loads((job / "metrics.json").read_text())
    file = job / "checkpoints" / torn if torn.endswith("ckpt") else job / torn
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    if torn == "last.ckpt":
        (job / "status.json").write_text('{"state": "running"}')
    code, out = sweep("seed=0,1", "experiment=vae")
    assert code == 0, out
    assert "seed-0: finished before, skipped" in out
    assert "seed-1: taken up again" in out
    after = json.loads((job / "metrics.json").read_text())
    assert {k: v for k, v in after.items() if not k.startswith("cost/")} == {
        k: v for k, v in before.items() if not k.startswith("cost/")
    }


def test_a_checkpoint_for_all_jobs_is_refused(sweep):
    code, out = sweep("seed=0,1", "resume=elsewhere.ckpt")
    assert code == 2
    assert "resume=elsewhere.ckpt in a sweep: leave it out" in out


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_other_launchers(launcher, tmp_path):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    sweep = ("hydra.sweep.dir=sweep", "seed=0,1", f"hydra/launcher={launcher}")
    start = finished_alone if launcher == "joblib" else finished
    code, out = start(PROGRAM, "-m", *TINY, *sweep, cwd=tmp_path)
    assert code == 0, out
    assert states(tmp_path / "sweep") == {"seed-0": "finished", "seed-1": "finished"}
    assert "2 finished" in out


def test_optuna_takes_its_study_up_again(process):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    optuna = ("sweep=tpe", "gradient=choice(ift,stop)", "inner.max_steps=range(1,4)")
    code, out = process(*optuna, "hydra.sweeper.n_trials=2")
    assert code == 0
    assert "2 finished" in out
    code, out = process(*optuna, "hydra.sweeper.n_trials=3")
    assert code == 0
    assert "3 finished" in out
    assert out.count(": started") == 1
    code, out = process(*optuna, "hydra.sweeper.n_trials=3")
    assert out.count(": started") == 0


def test_optuna_searches_the_way_that_its_metric_is_better(process, tmp_path):
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    space = ("sweep=tpe", "gradient=choice(ift,stop)", "inner.max_steps=range(1,4)")
    nll = (*space, "optimized_metric=test/nll")
    code, out = process(*nll, "hydra.sweeper.direction=maximize")
    assert code == 2
    assert "hydra.sweeper.direction=maximize searches for the worst test/nll" in out
    assert not (tmp_path / "sweep").exists()
    code, out = process(*nll, "hydra.sweeper.n_trials=2")
    assert code == 0, out
    storage = f"sqlite:///{tmp_path / 'sweep' / 'study.db'}"
    study = optuna.load_study(study_name="savi", storage=storage)
    assert study.direction.name == "MINIMIZE"
    assert study.best_value == min(trial.value for trial in study.trials)
    assert "with one seed, and so without an interval" in out
    # The other way round, the study would go on as it began.
    code, out = process(*space, "hydra.sweeper.n_trials=3")
    assert code == 2
    assert "optimized_metric=test/nll and would go on with optimized_metric=val/elbo" in out


def test_a_study_survives_trials_that_all_fail(process):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    code, out = process("sweep=tpe", "inner.rho=-1", "hydra.sweeper.n_trials=2")
    assert code == 1
    assert "2 failed" in out


@pytest.mark.parametrize("name", sorted(p.stem for p in Path(conf_dir(), "sweep").glob("*.yaml")))
def test_every_sweep_file_names_settings_that_fit_together(name, config):
    """Each job's config is composed, and its module built."""
    from savi.experiments.build import build
    from savi.sweeps.plan import _jobs, _overrides

    text = yaml.safe_load(Path(conf_dir(), "sweep", f"{name}.yaml").read_text())
    params = text["hydra"]["sweeper"]["params"]
    if name == "tpe":
        jobs = [[f"gradient={g}", "inner.rho=0.5", "inner.max_steps=3", "optimizer.lr=0.001"]
                for g in ("ift", "unrolled", "stop")]  # fmt: skip
        assert {o.partition("=")[0] for o in jobs[0]} == set(params)
    else:
        from omegaconf import OmegaConf

        node = OmegaConf.create(
            {"hydra": {"sweeper": {"params": params}, "overrides": {"task": []}}}
        )
        jobs = [job["overrides"] for job in _jobs(_overrides(node), [])]
        assert len(jobs) > 1
    # What a job is must be in its overrides: the command that repeats it leaves the sweep out.
    assert set(text) == {"hydra"} | ({"defaults"} & set(text))
    for job in jobs:
        # Which seed it is makes no other module.
        if "seed=0" in job or not any(word.startswith("seed=") for word in job):
            build(config("debug=quick", *job))


def test_a_job_that_another_process_has_taken_is_left_to_it(sweep, tmp_path):
    folder = tmp_path / "sweep" / "seed-0"
    with claimed(folder, again=True), recorded(folder, Origin(), {}):
        (folder / "config.yaml").unlink()
        code, out = sweep("seed=0,1")
        assert states(tmp_path / "sweep") == {"seed-0": "running", "seed-1": "finished"}
    assert "seed-0: another process is at work on it, skipped" in out
    assert code == 0
