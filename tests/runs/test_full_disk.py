"""Runs that find no room for a file."""

import json

import pytest
from programs import finished

from savi.experiments.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow

TINY = (
    "debug=quick", "logger=csv", "experiment=vae", "data.limit=40", "trainer.max_epochs=3",
    "model.hidden=4", "model.latent_dim=2", "evaluation.ais_examples=0", "callbacks.figures=false",
    "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0",
    "evaluation.importance_samples=8", "hydra.run.dir=run",
)  # fmt: skip

#: No file may grow beyond a few kilobytes from the n-th checkpoint on.
PROGRAM = """
import resource, signal, sys
import savi.cli
from savi.experiments.checkpoint import WholeCheckpoints
save, left = WholeCheckpoints.save_checkpoint, int(sys.argv.pop(1))
def save_checkpoint(*args, **kwargs):
    global left
    left -= 1
    if left == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))
    save(*args, **kwargs)
WholeCheckpoints.save_checkpoint = save_checkpoint
savi.cli.train()
"""


@pytest.mark.parametrize("checkpoint", [1, 4])
def test_no_room_for_a_checkpoint(checkpoint, tmp_path):
    code, output = finished(PROGRAM, str(checkpoint), *TINY, cwd=tmp_path)
    assert code == 1, output
    name = "best" if checkpoint == 1 else "last"
    file = tmp_path / f"run/checkpoints/{name}.ckpt"
    *_, last = output.strip().splitlines()
    assert last == f"savi: '{file}' cannot be written: File too large"
    told = json.loads((tmp_path / "run/status.json").read_text())
    assert (told["state"], told["reason"]) == ("failed", last.removeprefix("savi: "))
    assert not list((tmp_path / "run").rglob(".*.part"))
    kept = {path.stem: read_checkpoint(path) for path in file.parent.glob("*.ckpt")}
    assert {stem: contents["epoch"] for stem, contents in kept.items()} == (
        {} if checkpoint == 1 else {"best": 1, "best.before": 0, "last": 0}
    )
