"""Which epochs a run keeps."""

import pytest

from savi.experiments.checkpoint import read_checkpoint
from savi.experiments.run import train

TINY = (
    "debug=quick", "experiment=vae", "logger=csv", "data.limit=40", "model.hidden=4",
    "model.latent_dim=2", "callbacks.figures=false", "evaluation.ais_examples=0",
    "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Experiment logs directory")
@pytest.mark.filterwarnings("ignore:The '.*' does not have many workers")
def test_the_last_checkpoint_is_the_last_epoch_where_that_is_not_validated(config, tmp_path):
    train(config(*TINY, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2"), tmp_path)
    kept = {path.stem: read_checkpoint(path) for path in (tmp_path / "checkpoints").iterdir()}
    assert {name: checkpoint["epoch"] for name, checkpoint in kept.items()} == {
        "best": 1,
        "last": 2,
    }
