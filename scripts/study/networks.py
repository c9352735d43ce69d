"""Decoders of sequences that a study compares with: without a code, and the true one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from savi.data.sets.lstm_oracle import LATENT, lstm_oracle
from savi.errors import SettingError
from savi.vae.networks.base import DECODERS
from savi.vae.networks.lstm import LSTMDecoder


@DECODERS.register("lstm_without_code")
class LanguageModel(LSTMDecoder):
    """The LSTM that has read the entries before, and nothing of z: an autoregressive model.

    Its posterior is the prior as soon as the encoder has learned that, and its bound then log p(x).
    """

    def forward(self, z: Float[Tensor, "*S B d"], context: Int[Tensor, "B T"]) -> Tensor:
        """The logits."""
        return super().forward(0.0 * z, context)


@DECODERS.register("lstm_oracle")
class Oracle(LSTMDecoder):
    """The decoder from which ``data=lstm_oracle`` was drawn, as it comes; nothing in it learns.

    Args:
        latent_dim: 2.
        data_shape: (T, L), the length and the number of levels.
        hidden: the number of units.

    Raises:
        SettingError: for another number of codes.
    """

    def __init__(self, latent_dim: int, data_shape: Sequence[int], *, hidden: int) -> None:
        if latent_dim != LATENT:
            raise SettingError("latent_dim", f"is {latent_dim}: set it to {LATENT}, as the data")
        super().__init__(latent_dim, data_shape, hidden=hidden)
        truth = lstm_oracle(n=1, length=self.length, levels=self.levels, hidden=hidden).truth
        assert truth is not None
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            # A row for words that were dropped, which there are none of, is between the others.
            self.words[: self.levels].copy_(truth["words"][:-1])
            self.words[-1].copy_(truth["words"][-1])
            self.inputs.weight.copy_(truth["inputs"])
            self.cell.recurrent.copy_(truth["recurrent"])
            self.cell.bias.copy_(truth["bias"])
            self.head.weight.copy_(torch.cat([truth["head"], truth["code"]], dim=1))
            self.head.bias.copy_(truth["head_bias"])
        self.requires_grad_(False)
