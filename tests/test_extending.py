"""Methods of a user's own: the examples of docs/extending.md, run as a user would."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from programs import finished, finished_alone

DOCS = Path(__file__).parents[1] / "docs"

#: A choice of every kind, and an option of each that has one.
CHOICES = (
    "data=mine", "data.options.n=60", "model.decoder=mine", "model.slope=2", "model.encoder=mine",
    "model.likelihood=mine", "model.spread=0.2", "posterior=mine", "posterior.widest=10",
    "model.prior=mine", "model.width=1.5",
    "inner.objective=mine", "inner.weight=0.2", "inner.optimizer=mine",
    "gradient=mine", "gradient.part=0.25", "encoder_loss=mine",
    "optimizer=mine", "optimizer.momentum=0.5",
)  # fmt: skip

TINY = (
    "debug=quick", "trainer.max_epochs=1", "model.hidden=4", "model.latent_dim=1",
    "inner.max_steps=2", "evaluation.ais_examples=0", "evaluation.gap_examples=0",
    "evaluation.autoencoder_steps=0", "callbacks.figures=false", "logger=csv",
)  # fmt: skip

#: As console commands do it, without the current folder on Python's path.
COMMAND = "import sys, savi.cli as c; sys.path = [p for p in sys.path if p]; c.{}()"


LOAD = """
import sys
from savi.experiments.reload import load
from savi.inner import OBJECTIVES
inference = load(sys.argv[1]).inference
print(type(inference.optimizer).__name__, OBJECTIVES[inference.objective_name].__name__)
"""


@pytest.fixture
def here(tmp_path):
    """A folder with mine.py."""
    shutil.copy(DOCS / "mine.py", tmp_path)
    return tmp_path


@pytest.fixture
def run(here):
    """One of the commands, by its name, in a process of its own; its exit code and output."""

    def start(command: str, *arguments: str, cwd: Path = here) -> tuple[int, str]:
        return finished(COMMAND.format(command), *arguments, cwd=cwd)

    return start


def test_the_page_quotes_the_file():
    source = (DOCS / "mine.py").read_text("utf-8")
    quotes = re.findall(r"```python\n(.*?)```", (DOCS / "extending.md").read_text("utf-8"), re.S)
    assert len(quotes) == 11
    assert len(set(quotes)) == 11
    for quote in quotes:
        assert quote in source


@pytest.mark.slow
def test_a_run_of_a_users_own_methods_and_its_evaluation(run, tmp_path):
    train = ("imports=[mine]", *TINY, *CHOICES, "inner.shrink=0.3", "hydra.run.dir=run")
    code, out = run("train", *train)
    assert code == 0, out
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["imports"] == ["mine"]
    assert config["inner"]["shrink"] == 0.3
    assert config["encoder_loss"]["mine"] == 1.0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())

    checkpoint = "checkpoint=run/checkpoints/best.ckpt"
    code, out = run("evaluate", checkpoint, "output=again.json")
    assert code == 0, out
    assert out.startswith("The checkpoint imports mine\n")
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["test/elbo"] == pytest.approx(metrics["test/elbo"], rel=1e-5)

    code, out = finished(LOAD, "run", cwd=tmp_path)
    assert code == 0, out
    assert out.startswith("The checkpoint imports mine\nShrinking Flattened\n")

    code, out = run("evaluate", checkpoint, "imports=[]")
    assert code == 2
    assert "unknown" in out
    assert "the checkpoint imports mine, which imports=[] leaves out" in out

    # A module beside the checkpoint is not found there.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "mine.py", tmp_path / "run" / "checkpoints")
    code, out = run("evaluate", f"checkpoint={tmp_path}/run/checkpoints/best.ckpt", cwd=elsewhere)
    assert code == 2
    assert f"there is no module 'mine' in {elsewhere}" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    ["joblib", *(pytest.param(n, marks=pytest.mark.long) for n in ("basic", "submitit_local"))],
)
def test_every_launcher_imports_them_in_its_jobs(launcher, here):
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    sweep = ("hydra.sweep.dir=sweep", f"hydra/launcher={launcher}", "inner.shrink=0.3,0.5")
    arguments = ("-m", "imports=[mine]", *TINY, *CHOICES, *sweep)
    start = finished_alone if launcher == "joblib" else finished
    code, out = start(COMMAND.format("train"), *arguments, cwd=here)
    assert code == 0, out
    for value in (0.3, 0.5):
        folder = here / "sweep" / f"inner.shrink-{value}"
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["inner"]["shrink"] == value
        assert json.loads((folder / "status.json").read_text())["state"] == "finished"


@pytest.mark.slow
def test_optuna_tunes_an_option_of_a_users_own(run, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    optuna = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "hydra.sweep.dir=sweep")
    search = "inner.shrink=interval(0.3,0.5)"
    code, out = run("train", "-m", "imports=[mine]", *TINY, *CHOICES, *optuna, search)
    assert code == 0, out
    (job,) = (tmp_path / "sweep").glob("*/status.json")
    assert json.loads(job.read_text())["state"] == "finished"
    config = yaml.safe_load((job.parent / "config.yaml").read_text())
    assert 0.3 <= config["inner"]["shrink"] <= 0.5


@pytest.mark.slow
def test_replicas_of_a_users_own_methods(run, tmp_path):
    # Adam trains replicas, and no other outer optimiser; likelihood and prior are Gaussian.
    alone = ("optimizer", "model.likelihood", "model.spread", "model.prior", "model.width")
    choices = [choice for choice in CHOICES if not choice.startswith(alone)]
    replicas = ("trainer.replicas=2", "hydra.run.dir=run")
    code, out = run("train", "imports=[mine]", *TINY, *choices, *replicas)
    assert code == 0, out
    for seed in (0, 1):
        folder = tmp_path / "run" / f"seed-{seed}"
        assert json.loads((folder / "status.json").read_text())["state"] == "finished"
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert (config["seed"], config["inner"]["optimizer"]) == (seed, "mine")


REFUSED = [
    (
        ("inner.optimizer=mine", "inner.shrnk=1"),
        "unknown key 'inner.shrnk': choose one of adapt_lr, atol,",
    ),
    (("inner.shrink=1",), "'levenberg_marquardt' has no option 'shrink': it takes damping"),
    (("inner.optimizer=mine", "inner.shrink=abc"), "inner.shrink is 'abc': set it to a number"),
    (("posterior=yours",), "unknown posterior 'yours': choose one of diagonal_gaussian"),
    (("imports=[yours]",), "imports 'yours': there is no module 'yours' in "),
]


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "message"), REFUSED, ids=[r[0][-1] for r in REFUSED])
def test_a_mistake_ends_in_one_sentence(overrides, message, run, tmp_path):
    code, out = run("train", "imports=[mine]", *TINY, *overrides, "hydra.run.dir=run")
    assert code == 2, out
    (line,) = out.strip().splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()
