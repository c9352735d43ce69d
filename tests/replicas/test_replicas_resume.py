"""Runs in one process that have been stopped, and go on together."""

import json
from pathlib import Path

import pytest
from resumed_runs import assert_same_runs

from savi.errors import InputError
from savi.experiments.checkpoint import read_checkpoint
from savi.experiments.run import train as train_alone
from savi.replicas import train
from savi.replicas.ensemble import Ensemble
from savi.runs.record import Interrupted, state_of
from savi.runs.stop import STOP

pytestmark = pytest.mark.slow

#: Three steps in an epoch, the last of them on a smaller batch.
TINY = (
    "debug=quick", "logger=csv", "data.limit=40", "data.batch_size=16", "trainer.max_epochs=3",
    "trainer.log_every_n_steps=2", "model.hidden=4", "model.latent_dim=2", "inner.max_steps=3",
    "callbacks.figures=false", "evaluation.ais_examples=0", "evaluation.gap_examples=0",
    "evaluation.autoencoder_steps=0", "evaluation.importance_samples=8", "trainer.replicas=2",
)  # fmt: skip

METHODS = {
    "ift": ("experiment=savi_ift", "optimizer.schedule=cosine"),
    "warm starts": ("experiment=svi", "trainer.check_val_every_n_epoch=2"),
    "varied": ("experiment=vae", "trainer.vary={optimizer.lr: [0.01, 0.001]}"),
    "few batches": ("experiment=vae", "trainer.limit_train_batches=2"),
}

#: Those whose states the others have too, or ordinary runs.
LONG = {"warm starts", "varied", "few batches"}


@pytest.fixture
def run(config, tmp_path, monkeypatch):
    """Train into a folder; a signal may come in the n-th step of this start."""
    import signal

    left = []
    gradients = Ensemble.gradients

    def interrupted(self, *args, **kwargs):
        if left:
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(signal.SIGTERM)
        return gradients(self, *args, **kwargs)

    monkeypatch.setattr(Ensemble, "gradients", interrupted)

    def start(name: str, *overrides: str, stopped_in: int | None = None):
        left[:] = [] if stopped_in is None else [stopped_in]
        values = config(*TINY, *overrides)
        if stopped_in is None:
            return train(values, tmp_path / name)
        with pytest.raises(Interrupted):
            train(values, tmp_path / name)
        assert STOP.code == 143
        return None

    start.config = lambda *overrides: config(*TINY, "experiment=vae", *overrides)
    return start


def folders(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/status.json"))


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[pytest.mark.long] * (m in LONG), id=m) for m in METHODS]
)
def test_replicas_go_on_to_the_same_results(method, run, tmp_path):
    options = METHODS[method]
    run("whole", *options)
    # In the first epoch, in its last step, in the second.
    for stopped_in in (2, 1, 2):
        run("stopped", *options, "resume=auto", stopped_in=stopped_in)
        assert {state_of(path) for path in (tmp_path / "stopped").iterdir() if path.is_dir()} == {
            "interrupted"
        }
    run("stopped", *options, "resume=auto")
    assert len(folders(tmp_path / "whole")) == 2
    for name in folders(tmp_path / "whole"):
        assert_same_runs(tmp_path / "stopped" / name, tmp_path / "whole" / name)


def test_what_has_been_evaluated_is_not_evaluated_again(run, tmp_path, monkeypatch):
    from savi.experiments import conclude

    run("whole", "experiment=vae")
    evaluate, asked = conclude.evaluate, []

    def interrupted(*args, **kwargs):
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(conclude, "evaluate", interrupted)
    with pytest.raises(Interrupted):
        run("stopped", "experiment=vae")
    assert state_of(tmp_path / "stopped/seed-0") == "finished"
    assert state_of(tmp_path / "stopped/seed-1") == "interrupted"
    assert "val/elbo" in json.loads((tmp_path / "stopped/seed-1/metrics.json").read_text())
    run("stopped", "experiment=vae", "resume=auto")
    assert len(asked) == 3
    for name in ("seed-0", "seed-1"):
        assert_same_runs(tmp_path / "stopped" / name, tmp_path / "whole" / name)
    # And once more nothing.
    assert [m["test/elbo"] for m in run("stopped", "experiment=vae", "resume=auto")] == [
        json.loads((tmp_path / "whole" / name / "metrics.json").read_text())["test/elbo"]
        for name in ("seed-0", "seed-1")
    ]
    assert len(asked) == 3


def test_more_epochs_continue_finished_replicas(run, tmp_path):
    run("whole", "experiment=vae", "trainer.max_epochs=4")
    run("longer", "experiment=vae", "trainer.max_epochs=2")
    run("longer", "experiment=vae", "trainer.max_epochs=4", "resume=auto")
    for name in ("seed-0", "seed-1"):
        assert_same_runs(tmp_path / "longer" / name, tmp_path / "whole" / name)


@pytest.mark.parametrize(
    "damaged",
    [("replicas",), pytest.param(("replicas", "replicas.before"), marks=pytest.mark.long)],
    ids=str,
)
def test_a_damaged_state_is_named_and_the_one_before_used(damaged, run, tmp_path, capsys):
    run("whole", "experiment=vae")
    run("run", "experiment=vae", "resume=auto", stopped_in=8)
    for name in damaged:
        file = tmp_path / f"run/{name}.ckpt"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    run("run", "experiment=vae", "resume=auto")
    assert capsys.readouterr().err.count("is damaged") == len(damaged)
    for name in ("seed-0", "seed-1"):
        assert_same_runs(tmp_path / "run" / name, tmp_path / "whole" / name)


@pytest.mark.long
def test_a_best_epoch_that_is_damaged_is_trained_again(run, tmp_path, capsys):
    run("whole", "experiment=vae")
    run("run", "experiment=vae", "resume=auto", stopped_in=8)
    best = tmp_path / "run/seed-1/checkpoints/best.ckpt"
    best.write_bytes(best.read_bytes()[:-1] + b"?")
    run("run", "experiment=vae", "resume=auto")
    assert "best.ckpt' is damaged" in capsys.readouterr().err
    for name in ("seed-0", "seed-1"):
        assert_same_runs(tmp_path / "run" / name, tmp_path / "whole" / name)


def test_a_failure_within_an_epoch_costs_what_was_trained_since_the_last_state(
    run, tmp_path, monkeypatch
):
    run("whole", "experiment=vae")
    often = "callbacks.checkpoint_every_n_minutes=1e-9"
    update, left = Ensemble.update, [8]

    def failing(self, *args):
        left[0] -= 1
        if left[0] == 0:
            raise MemoryError("none")
        return update(self, *args)

    monkeypatch.setattr(Ensemble, "update", failing)
    with pytest.raises(MemoryError):
        train(run.config(often), tmp_path / "run")
    training = read_checkpoint(tmp_path / "run/replicas.ckpt")["training"]
    assert (training["epoch"], training["batch"], training["taken"]) == (2, 1, 7)
    run("run", "experiment=vae", often, "resume=auto")
    for name in ("seed-0", "seed-1"):
        assert_same_runs(tmp_path / "run" / name, tmp_path / "whole" / name)


def test_other_replicas_are_refused(run, config, tmp_path):
    run("run", "experiment=vae", "resume=auto", stopped_in=2)
    for overrides, message in (
        (("optimizer.lr=0.1",), "another optimizer.lr: set it to 0.001 again"),
        (("trainer.replicas=3",), "another trainer.replicas: set it to 2 again"),
        (("resume=elsewhere.ckpt",), "with resume 'elsewhere.ckpt': set resume=auto"),
    ):
        with pytest.raises(InputError, match=message):
            run("run", "experiment=vae", "resume=auto", *overrides)
    alone = config(*TINY, "experiment=vae", "trainer.replicas=1", "resume=auto")
    with pytest.raises(InputError, match="as one of several replicas"):
        train_alone(alone, tmp_path / "run/seed-0")


def test_a_finished_run_is_not_begun_again(run, tmp_path):
    run("run", "experiment=vae")
    for file in (tmp_path / "run").glob("*.ckpt"):
        file.unlink()
    with pytest.raises(InputError, match="holds a run already"):
        run("run", "experiment=vae", "resume=auto")
