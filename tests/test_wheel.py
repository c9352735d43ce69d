"""The built wheel, run in another folder, brings its own configs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from savi import __version__ as VERSION

ROOT = Path(__file__).parents[1]
TINY = (
    "debug=quick", "data.limit=32", "trainer.max_epochs=1", "logger=csv", "hydra.run.dir=run",
    "evaluation.ais_examples=0", "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0",
)  # fmt: skip


#: Runs the two installed scripts, in one process: most of the time goes into the imports.
PROGRAM = """
import runpy, sys
from savi.config.store import conf_dir
print(conf_dir())
folder, checkpoint, *words = sys.argv[1:]
for name, arguments in (("savi-train", words), ("savi-evaluate", [checkpoint])):
    sys.argv = [f"{folder}/{name}", *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as exit_:
        if exit_.code:
            raise
    print("end of", name)
"""


def run(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=cwd, env=os.environ | env, text=True, capture_output=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with nothing but the installed wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    built = run(
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        cwd=ROOT,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    installed = run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
        *("--target", str(folder / "site"), str(wheel)),
        cwd=folder,
    )
    assert installed.returncode == 0, installed.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_wheel_holds_the_typed_package_and_its_configs_alone(site):
    (wheel,) = site.parent.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "savi/py.typed" in names
    assert "savi/conf/config.yaml" in names
    assert not [name for name in names if "benchmark" in name]
    assert {name.partition("/")[0] for name in names} == {"savi", f"savi_vae-{VERSION}.dist-info"}


@pytest.mark.slow
def test_the_wheel_trains_and_evaluates(site, tmp_path):
    env = {"PYTHONPATH": str(site)}
    scripts = site / "bin"
    for name in ("savi-train", "savi-evaluate"):
        help_ = run(str(scripts / name), "--help", cwd=tmp_path, **env)
        assert help_.returncode == 0, help_.stderr
    words = (str(scripts), "checkpoint=run/checkpoints/best.ckpt", *TINY)
    done = run(sys.executable, "-c", PROGRAM, *words, cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    where, _, output = done.stdout.partition("\n")
    assert Path(where) == site / "savi" / "conf"
    trained, _, evaluated = output.partition("end of savi-train\n")
    assert "test/elbo" in trained
    assert "test/elbo" in evaluated


@pytest.mark.slow
def test_scripts_run_from_a_checkout_that_is_not_installed(tmp_path):
    # -S -s leave out what is installed in editable form; the dependencies come back by hand.
    packages = os.pathsep.join(p for p in sys.path if p.endswith("site-packages"))
    refused = run(
        *(sys.executable, "-S", str(ROOT / "scripts" / "train.py"), "gradient=foo"),
        cwd=tmp_path,
        PYTHONPATH=packages,
    )
    assert refused.returncode == 2
    assert "unknown gradient 'foo'" in refused.stderr
    help_ = run(
        *(sys.executable, "-S", str(ROOT / "scripts" / "evaluate.py"), "--help"),
        cwd=tmp_path,
        PYTHONPATH=packages,
    )
    assert help_.returncode == 0
    assert "checkpoint" in help_.stdout
