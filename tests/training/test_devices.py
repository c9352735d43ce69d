"""Data-parallel runs end to end, on two processes that talk by gloo."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import finished
from pytorch_lightning.plugins.environments import SLURMEnvironment

from savi.cli import train
from savi.experiments.build import build
from savi.experiments.checkpoint import STEP_KEY, read_checkpoint
from savi.experiments.trainer import build_trainer

#: Each device starts the same program again, so that it must be a file.
SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"

#: Quick, and a number of examples that two devices share evenly.
RUN = (
    "debug=quick", "data.limit=96", "data.batch_size=32", "trainer.log_every_n_steps=1",
    "model.hidden=16", "evaluation.ais_examples=0", "evaluation.autoencoder_steps=0",
    "callbacks.figures=false", "logger=csv", "trainer.threads=1",
)  # fmt: skip
TWO = ("trainer=ddp", "trainer.accelerator=cpu")

#: Figures of one device's share, by their nature or as a worst case.
OWN = ("cost/", "ift/", "inner/stationarity")

#: Means of counts: an example at the tolerance may fall to either side of it.
COUNTED = {"inner/converged", "inner/steps"}


def run(folder: Path, name: str, *overrides: str) -> dict[str, float]:
    """The figures of a run on several devices."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *RUN, *overrides, f"hydra.run.dir={name}"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / name / "metrics.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["savi_ift", pytest.param("vae", marks=pytest.mark.long)])
def test_two_devices_give_the_figures_of_one(experiment, tmp_path):
    words = (*RUN, f"experiment={experiment}", "hydra.run.dir=one")
    code, output = finished("import savi.cli; savi.cli.train()", *words, cwd=tmp_path)
    assert code == 0, output
    one = json.loads((tmp_path / "one" / "metrics.json").read_text())
    two = run(tmp_path, "two", f"experiment={experiment}", *TWO)
    assert one.keys() == two.keys()
    shared = {name: value for name, value in one.items() if not name.startswith(OWN)}
    assert len(shared) > 10
    counted = {name: shared.pop(name) for name in COUNTED & shared.keys()}
    assert {name: two[name] for name in shared} == pytest.approx(shared, rel=1e-4, abs=2e-5)
    assert {name: two[name] for name in counted} == pytest.approx(counted, abs=0.05)
    held = {path.name for path in (tmp_path / "two").iterdir()}
    assert {"metrics.csv", "metrics.json", "config.yaml", "checkpoints", "status.json"} <= held
    rows = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("one", "two")]
    assert len(rows[0]) == len(rows[1])


#: Makes the loss of one device infinite at its second step.
FAULTY = """
import torch
import torch.distributed as dist
from savi.inference.outer_loss import OuterLoss

plain, calls = OuterLoss.__call__, []


def broken(self, *args, **kwargs):
    step = plain(self, *args, **kwargs)
    calls.append(step)
    if len(calls) == 2 and dist.get_rank() == 1:
        object.__setattr__(step, "loss", step.loss + torch.inf)
    return step


OuterLoss.__call__ = broken
"""


@pytest.mark.slow
@pytest.mark.long
def test_a_bad_step_of_one_device_is_left_out_by_all(tmp_path):
    (tmp_path / "faulty.py").write_text(FAULTY)
    metrics = run(tmp_path, "two", "experiment=savi_ift", "imports=[faulty]", *TWO)
    assert metrics["train/bad_steps"] == 1
    assert all(math.isfinite(value) for value in metrics.values())
    kept = read_checkpoint(tmp_path / "two" / "bad_step.ckpt")[STEP_KEY]
    assert (kept["step"], kept["what"]) == (1, "the loss is inf")
    # The whole batch, of which each device had a half.
    assert kept["x"].shape == (32, 64)
    assert len(set(kept["index"].tolist())) == 32


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("trainer.devices=2",), "trainer.devices 2 with trainer.strategy 'auto': set trainer=ddp"),
        ((*TWO, "data.batch_size=33"), "cannot share batches of 33 evenly"),
        ((*TWO, "experiment=svi"), "with inner.warm_start, which needs one device"),
        ((*TWO, "model.kl.free_bits=0.1"), "with model.kl.free_bits, which needs one device"),
        (
            (*TWO, "trainer.replicas=2"),
            "trainer.replicas 2 with several devices: set trainer.devices=1",
        ),
        (("trainer.strategy=foo",), "unknown trainer.strategy 'foo': choose one of auto, ddp"),
    ],
)
def test_what_several_devices_cannot_do_is_refused(overrides, message, command, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        command(train, *RUN, *overrides, "hydra.run.dir=run")
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_slurm_job_is_not_put_back_into_the_queue(config, tmp_path, monkeypatch):
    """Lightning would do so on the signal by which submitit ends a job that is out of time."""
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "savi", "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    values = config(*RUN)
    data, _ = build(values)
    environment = build_trainer(values["trainer"], data, [], False, tmp_path)._accelerator_connector
    assert isinstance(environment.cluster_environment, SLURMEnvironment)
    assert not environment.cluster_environment.auto_requeue


@pytest.mark.slow
@pytest.mark.long
def test_two_devices_go_on_to_the_same_figures(tmp_path):
    options = (*TWO, "experiment=savi_ift", "trainer.max_epochs=2")
    whole = run(tmp_path, "whole", *options)
    run(tmp_path, "longer", *options, "trainer.max_epochs=1")
    longer = run(tmp_path, "longer", *options, "resume=auto")
    assert longer.keys() == whole.keys()
    kept = {k: v for k, v in whole.items() if not k.startswith(("cost/step", "cost/peak"))}
    assert {k: longer[k] for k in kept} == pytest.approx(kept, rel=1e-6, abs=1e-6)
