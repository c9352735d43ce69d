"""Signals at any moment of a command, each in a process of its own."""

import json
import shlex
import signal

import pytest
from programs import finished, finished_alone

from savi.runs.folder import contents

pytestmark = pytest.mark.slow

TINY = (
    "debug=quick", "logger=csv", "experiment=vae", "data.limit=40", "trainer.max_epochs=2",
    "model.hidden=4", "model.latent_dim=2", "evaluation.ais_examples=0",
    "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0",
    "evaluation.importance_samples=8", "hydra.run.dir=run",
)  # fmt: skip

#: Sends a signal when a function is called for the first time.
PROGRAM = """
import importlib, signal, sys
import savi.cli
number, place = signal.Signals[sys.argv.pop(1)], sys.argv.pop(1)
module, _, path = place.partition(":")
*owners, name = path.split(".")
owner = importlib.import_module(module)
for part in owners:
    owner = getattr(owner, part)
function = getattr(owner, name)
def wrapped(*args, **kwargs):
    setattr(owner, name, function)
    signal.raise_signal(number)
    return function(*args, **kwargs)
setattr(owner, name, wrapped)
savi.cli.train()
"""

#: The same when a module is imported.
IMPORTS = """
import signal, sys
import savi.cli
class Finder:
    def find_spec(name, *_):
        if name == "torch":
            signal.raise_signal(signal.SIGTERM)
sys.meta_path.insert(0, Finder)
savi.cli.train()
"""


def test_a_signal_during_the_imports(tmp_path):
    code, output = finished_alone(IMPORTS, *TINY, cwd=tmp_path)
    assert (code, output) == (143, "savi: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_data_are_read(number, tmp_path):
    place = "savi.data.module:TensorDataModule.setup"
    code, output = finished(PROGRAM, number.name, place, *TINY, cwd=tmp_path)
    assert (code, output) == (128 + number, "savi: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_a_run_is_taken_up_again(tmp_path):
    place = "savi.training.module:SemiAmortizedVAE.training_step"
    finished(PROGRAM, "SIGTERM", place, *TINY, cwd=tmp_path)
    place = "savi.data.module:TensorDataModule.setup"
    code, output = finished(PROGRAM, "SIGTERM", place, *TINY, "resume=auto", cwd=tmp_path)
    told = json.loads((tmp_path / "run/status.json").read_text())
    assert (code, output) == (143, f"savi: interrupted; to go on: {told['again']}\n")


@pytest.mark.parametrize(
    "place",
    [
        "savi.data.module:TensorDataModule.setup",
        "savi.sweeps.job:is_claimed",
        "savi.training.module:SemiAmortizedVAE.training_step",
    ],
)
def test_a_signal_to_a_sweep(place, tmp_path):
    sweep = ("-m", *TINY[:-1], "hydra.sweep.dir=a sweep", "seed=0,1")
    code, output = finished(PROGRAM, "SIGTERM", place, *sweep, cwd=tmp_path)
    assert code == 143
    *_, last = output.strip().splitlines()
    assert output.count("savi: ") == 1
    begin, _, again = last.partition("; to go on: ")
    assert begin == "savi: interrupted"
    assert again == shlex.join(["savi-train", *sweep[:-2], "seed=0,1", "hydra.sweep.dir='a sweep'"])
    if place.endswith("training_step"):
        told = json.loads((tmp_path / "a sweep/seed-0/status.json").read_text())
        assert (told["state"], told["again"]) == ("interrupted", again)
        code, output = finished(
            "import savi.cli; savi.cli.train()", *shlex.split(again)[1:], cwd=tmp_path
        )
        assert code == 0, output
        assert "seed-0: taken up again" in output


@pytest.mark.parametrize(
    ("number", "place", "stage"),
    [
        (signal.SIGTERM, "savi.training.module:SemiAmortizedVAE.training_step", "training"),
        (signal.SIGINT, "savi.training.module:SemiAmortizedVAE.validation_step", "training"),
        (signal.SIGTERM, "savi.experiments.conclude:evaluate", "evaluation"),
        (signal.SIGINT, "savi.experiments.conclude:final_media", "figures"),
        (signal.SIGTERM, "savi.report.figures.style:Figure.savefig", "figures"),
    ],
)
def test_a_signal_to_a_run(number, place, stage, tmp_path):
    code, output = finished(PROGRAM, number.name, place, *TINY, cwd=tmp_path)
    assert code == 128 + number, output
    *_, last = output.strip().splitlines()
    assert last.startswith("savi: interrupted: checkpoints and metrics so far are in ")
    told = json.loads((tmp_path / "run/status.json").read_text())
    assert (told["state"], told["stage"]) == ("interrupted", stage)
    assert told["reason"] == f"stopped by {'SIGTERM' if number == signal.SIGTERM else 'Ctrl-C'}"
    assert last.endswith(f"; to go on: {told['again']}")
    assert told["again"].startswith("savi-train debug=quick logger=csv")
    assert told["again"].endswith("hydra.run.dir=run resume=auto")
    assert {"metrics.csv", "metrics.json", "checkpoints"} <= set(contents(tmp_path / "run"))
    assert output.count("savi: ") == 1
    if stage == "training":
        return
    # The command that it told.
    words = told["again"].split()[1:]
    code, output = finished("import savi.cli; savi.cli.train()", *words, cwd=tmp_path)
    assert code == 0, output
    assert "/2  train" not in output
    assert ("evaluating" in output) == (stage == "evaluation")
    assert (tmp_path / "run/figures/learning_curves.png").is_file()
