"""Where each training example's last inner solve ended: the start of its next one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from savi.errors import Conflict, InputError, refuse
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.types import Index, Rows


class WarmStarts(Callback):
    """A table of λ, one row per training example: the start λ0 of its next inner solve.

    A row is the prior's λ until its example has been visited, and from then on the λK of the last
    visit. It is the example's own past that decides, so that the order of the batches does not
    matter. Validation and test examples have no past: they start at the prior's λ, and their
    figures depend on the weights alone.

    As a callback it learns the number of examples from the training loader, and is saved in
    checkpoints apart from the weights: an evaluation needs no table, and a resumed run goes on
    with the one that it had.

    Args:
        inference: the inference without an encoder whose solves start here.

    Attributes:
        table: shape [N, P], constants of the graph; None before the first training.
    """

    def __init__(self, inference: SemiAmortizedInference) -> None:
        self.inference = inference
        self.table: Rows | None = None
        self._saved: Rows | None = None

    @classmethod
    def build(cls, inner: Mapping[str, Any], inference: SemiAmortizedInference) -> Self | None:
        """The table that the ``inner`` group asks for, or None.

        Raises:
            InputError: where the start is not free to choose, or nothing is solved, or the
                tolerance would shrink with the gradient at the start.
        """
        if not inner.get("warm_start", False):
            return None
        name, rtol, off = inference.objective_name, inference.rtol, ", or inner.warm_start=false"
        refuse(
            "inner.warm_start",
            [
                Conflict(
                    inference.encoder is not None,
                    "an encoder", f"model.encoder=none{off}", "which chooses the starts itself",
                ),
                Conflict(
                    inference.anchored,
                    f"inner.objective '{name}'", f"inner=elbo{off}",
                    "whose λ0 is part of the problem",
                ),
                Conflict(
                    inference.max_steps == 0,
                    "inner.max_steps 0", f"inner.max_steps to 1 or more{off}",
                    "where nothing is solved",
                ),
                Conflict(
                    rtol > 0 and inference.atol == 0,
                    f"inner.rtol {rtol} and inner.atol 0",
                    "inner.atol above 0 (0.1 leaves about 0.01 nats), or inner.rtol=0",
                    "a tolerance that shrinks as the starts get better",
                ),
            ],
        )  # fmt: skip
        return cls(inference)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin at the prior's λ, or where the run ended that this one resumes.

        Raises:
            InputError: on several devices, between which the examples are dealt anew in every
                epoch, and for a checkpoint of a run with other data or another posterior.
        """
        if trainer.world_size > 1:
            raise InputError(
                f"inner.warm_start on {trainer.world_size} devices: an example would not find the "
                "start that another device has kept, so train on one, or set inner.warm_start=false"
            )
        loader: Any = trainer.train_dataloader
        self.begin(len(loader.dataset))
        assert self.table is not None
        if trainer.ckpt_path is None or self._saved is None:
            return
        if self._saved.shape != self.table.shape:
            raise InputError(
                f"the checkpoint '{trainer.ckpt_path}' holds warm starts of shape "
                f"{tuple(self._saved.shape)} where {tuple(self.table.shape)} are needed: resume "
                "with the data and the posterior of its run, or set inner.warm_start=false"
            )
        self.table.copy_(self._saved)

    def begin(self, examples: int) -> None:
        """Begin at the prior's λ."""
        self.table = self.inference.prior_params.repeat(examples, 1)

    def __getitem__(self, index: Index) -> Rows:
        """A copy of the starts of some examples."""
        assert self.table is not None
        return self.table[index]

    def __setitem__(self, index: Index, value: Rows) -> None:
        """Keep where the solves of some examples ended; a λ that is not finite is not kept."""
        assert self.table is not None
        finite = torch.isfinite(value).all(dim=-1, keepdim=True)
        self.table[index] = torch.where(finite, value.detach(), self.table[index])

    def state_dict(self) -> dict[str, Any]:
        """The table, for a checkpoint."""
        return {"table": self.table}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hold a checkpoint's table until training starts."""
        self._saved = state_dict["table"]
