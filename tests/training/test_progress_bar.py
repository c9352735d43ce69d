"""What a terminal shows of a training."""

import io
from datetime import timedelta

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers.logger import DummyLogger
from rich.console import Console

from savi.experiments.build import build
from savi.training import progress_bar
from savi.training.progress_bar import RunProgressBar, TimeLeft


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only here."""

    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    made = Clock()
    monkeypatch.setattr(progress_bar, "time", made)
    return made


class Trainer:
    """Two epochs done of four, with ten batches each."""

    max_epochs, num_training_batches = 4, 10

    class fit_loop:
        total_batch_idx = 19


def test_the_time_left_is_that_of_all_epochs_by_what_this_start_has_done(clock):
    column = TimeLeft(Trainer())
    assert column.left() is None
    Trainer.fit_loop.total_batch_idx = 24
    clock.now += 10.0
    # Two seconds a step, fifteen steps.
    assert column.left() == timedelta(seconds=30)
    assert str(column.render(None)) == "0:00:30 left"
    Trainer.max_epochs = -1
    assert column.left() is None


def test_a_line_at_80_columns_holds_epoch_time_and_bounds_and_no_id(config, clock):
    seen = []
    data, module = build(
        config("experiment=vae", "data.limit=48", "data.batch_size=16", "model.hidden=8")
    )

    class Bar(RunProgressBar):
        def on_train_batch_end(self, trainer, *args):
            clock.now += 1.0
            super().on_train_batch_end(trainer, *args)
            console = Console(file=io.StringIO(), width=80)
            console.print(self.progress)
            seen.append(console.file.getvalue())

    class Wandb(DummyLogger):
        version = "95vd643b"

    trainer = pl.Trainer(
        max_epochs=2,
        logger=Wandb(),
        callbacks=[Bar()],
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_model_summary=False,
        inference_mode=False,
    )
    trainer.fit(module, datamodule=data)
    assert "v_num" not in "".join(seen)
    first, last = seen[0].split(), seen[-1].split()
    assert first[:2] == ["epoch", "1/2"]
    assert "1/3" in first
    assert first[first.index("left") - 1] == "0:00:05"
    assert last[last.index("left") - 1] == "0:00:00"
    assert "train/elbo:" in first
    assert "val/elbo:" in last
