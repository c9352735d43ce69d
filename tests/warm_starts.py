"""Small runs without an encoder for tests, and what their inner solves did."""

from collections import defaultdict

import pytorch_lightning as pl
import torch
from torch import Tensor

from savi.inference.semi_amortized import Inference

EXAMPLES = 40
SMALL = (
    "logger=csv", "experiment=svi", f"data.limit={EXAMPLES}", "data.batch_size=16",
    "model.hidden=8", "model.latent_dim=3", "inner.samples=2", "evaluation.val_samples=2",
    "evaluation.samples=2", "evaluation.importance_samples=2", "evaluation.gap_examples=0",
    "evaluation.ais_examples=0", "evaluation.autoencoder_steps=0",
)  # fmt: skip
WARM = (*SMALL, "inner.warm_start=true", "inner.max_steps=10", "inner.atol=0.1")


class Diary(pl.Callback):
    """What the inner solves began and ended with: training by epoch and example, others in turn.

    It sows the global source of noise before each training step, which no checkpoint holds.
    """

    def __init__(self) -> None:
        self.epochs: dict[int, dict[str, Tensor]] = defaultdict(dict)
        self.untrained: list[Inference] = []

    def setup(self, trainer, pl_module, stage):
        def note(module, arguments, inference: Inference) -> None:
            self.latest = inference
            if not pl_module.training:
                self.untrained.append(inference)

        self.hook = pl_module.inference.register_forward_hook(note)

    def teardown(self, trainer, pl_module, stage):
        self.hook.remove()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(trainer.global_step)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        solution = self.latest.solution
        rows = {"init": self.latest.init, "value": solution.value, "steps": solution.steps[:, None]}
        page = self.epochs[trainer.current_epoch]
        for name, values in rows.items():
            page.setdefault(name, torch.full((EXAMPLES, values.shape[1]), torch.nan))
            page[name][batch.index] = values.detach().float()

    def steps(self, epoch: int) -> float:
        """The mean number of inner steps of an epoch."""
        return float(self.epochs[epoch]["steps"].mean())


def quiet_trainer(epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return pl.Trainer(
        max_epochs=epochs,
        callbacks=list(callbacks),
        accelerator="cpu",
        inference_mode=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **dict.fromkeys(off, False),
    )
