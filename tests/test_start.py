"""How the commands begin: what needs no PyTorch imports none, however it ends."""

import json
import subprocess
import sys

import pytest

import savi

#: Takes seconds to import.
HEAVY = ("torch", "pytorch_lightning", "torchvision", "matplotlib", "sklearn", "scipy", "wandb")

#: Calls commands in one process, each as [name, word, ...], and tells what each one printed, with
#: what it exited, and what it has imported of the heavy ones.
PROGRAM = """
import contextlib, io, json, os, sys
import savi.cli
os.environ["COMP_LINE"] = "savi-train experiment=sav"
heavy, commands = json.loads(sys.argv[1])
told = []
for name, *words in commands:
    sys.argv = ["savi-" + name, *words]
    code, printed = 0, io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            getattr(savi.cli, name)()
        except SystemExit as error:
            code = error.code
    told.append([printed.getvalue(), code or 0, [name for name in heavy if name in sys.modules]])
print(json.dumps(told))
"""

HELP = [
    (["train", "--help"], "savi-train trains a model"),
    (["train", "--version"], f"savi {savi.__version__}\n"),
    (["train", "--shell-completion", "install=zsh"], "compdef _savi_completion savi-train"),
    (["train", "--shell-completion", "query=bash"], "experiment=savi\nexperiment=savi_ift\n"),
    (["evaluate", "--help"], "savi-evaluate evaluates a checkpoint"),
    (["evaluate", "--version"], f"savi {savi.__version__}\n"),
    (["evaluate", "-sc", "query=fish"], ""),
    (["report", "--help"], "usage: savi-report RUN_OR_SWEEP_FOLDER"),
    (["report", "--version"], f"savi {savi.__version__}\n"),
    (["report", "-sc", "install=fish"], "complete -c savi-report"),
]

REFUSED = [
    (["train", "experiment=nope"], "unknown experiment 'nope'"),
    (["train", "foo=1"], "unknown key 'foo'"),
    (["train", "inner.optimizer=nope"], "unknown inner.optimizer 'nope'"),
    (["train", "model.activation=nope"], "unknown activation 'nope'"),
    (["train", "data.name=nope"], "unknown data set 'nope'"),
    (["train", "logger.mode=nope"], "unknown logger.mode 'nope'"),
    (["train", "seed=a"], "could not be converted to Integer"),
    (["train", "inner.damping=a"], "inner.damping is 'a': set it to a number"),
    (["train", "seed=-1"], "seed is -1: set it to 0 or more"),
    (["train", "+inner.damping=-1"], "inner.damping is -1.0: set it above 0"),
    (["train", "+inner.lr=3"], "inner.optimizer 'levenberg_marquardt' has no option 'lr'"),
    (["train", "+data.options.n=3"], "data set 'digits' has no options"),
    (["train", "data=arrays"], "data set 'arrays' needs data.path"),
    (["train", "-m", "--cfg", "job"], "-m runs jobs, --cfg and --info only look"),
    (["train", "--nope"], "unrecognized arguments: --nope"),
    (["evaluate"], "no checkpoint is given"),
    (["evaluate", "checkpoint=nope.ckpt"], "checkpoint 'nope.ckpt' does not exist"),
    (["evaluate", "checkpoint=nope.ckpt", "samples=0"], "samples is 0: set it to 1 or more"),
    (["evaluate", "checkpoint=nope.ckpt", "ood=nope"], "unknown ood 'nope'"),
    (["report"], "the following arguments are required: RUN_OR_SWEEP_FOLDER"),
    (["report", "nope"], "'nope' is no folder"),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each command printed, its exit code, and what had been imported by then."""
    words = [command for command, _ in HELP + REFUSED]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([HEAVY, words])],
        cwd=tmp_path_factory.mktemp("here"), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip(map(tuple, words), json.loads(done.stdout), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("command", "printed"), HELP, ids=[" ".join(c) for c, _ in HELP])
def test_what_helps_is_light(command, printed, told):
    text, code, imported = told[tuple(command)]
    assert printed in text
    assert (code, imported) == (0, [])


@pytest.mark.slow
@pytest.mark.parametrize(("command", "sentence"), REFUSED, ids=[" ".join(c) for c, _ in REFUSED])
def test_what_refuses_is_light(command, sentence, told):
    text, code, imported = told[tuple(command)]
    (line,) = text.splitlines()
    assert line.startswith("savi: ")
    assert sentence in line
    assert (code, imported) == (2, [])


@pytest.mark.slow
def test_an_impossible_method_is_refused_without_lightning(tmp_path):
    words = [["train", "inner.noise=fresh"]]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([HEAVY, words])],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    ((text, code, imported),) = json.loads(done.stdout)
    assert "gradient 'ift' with inner.noise 'fresh'" in text
    assert (code, imported) == (2, ["torch"])


@pytest.mark.slow
def test_the_package_itself_is_light():
    code = (
        "import sys, savi\n"
        "from savi import InputError\n"
        "print(*(name for name in sys.modules if name in ('torch', 'hydra', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    assert all(callable(getattr(savi, name)) for name in ("load", "minimize", "train"))
