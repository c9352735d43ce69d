"""LSTMs over sequences of levels: an inference network, and a decoder that is given x itself.

The cell is written out: cuDNN's has no second derivatives, which unrolled solves, Hessians and
Gauss–Newton products need on any device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from savi.errors import InputError, SettingError
from savi.types import Observations
from savi.vae.networks.base import DECODERS, ENCODERS, is_plain
from savi.vae.networks.conditional import ConditionalDecoder
from savi.vae.networks.initialization import initialized, shrink_output
from savi.vae.networks.recurrence import Trace, trace

#: The levels of sequences, below 0 where they have ended.
Tokens = Int[Tensor, "*B T"]


class Cell(nn.Module):
    """c' = σ(f) c + σ(i) tanh(u), h' = σ(o) tanh(c'), for gates (i, f, o, u) = a + U h.

    What else than h goes into the gates, their affine functions a of the inputs with the ``bias``,
    is computed for all steps at once.

    Args:
        hidden: the number of units.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.recurrent = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        nn.init.uniform_(self.recurrent, -1.0 / math.sqrt(hidden), 1.0 / math.sqrt(hidden))
        # A cell that begins by remembering has a gradient through many steps.
        nn.init.ones_(self.bias[hidden : 2 * hidden])

    def forward(
        self, a: Float[Tensor, "N G"], h: Float[Tensor, "N H"], c: Float[Tensor, "N H"]
    ) -> tuple[Float[Tensor, "N H"], Float[Tensor, "N H"]]:
        """One step, to h' and c'."""
        sizes = [3 * self.hidden, self.hidden]
        opened, moved = torch.addmm(a, h, self.recurrent.T).split(sizes, dim=-1)
        i, f, o = opened.sigmoid().chunk(3, dim=-1)
        c = f * c + i * moved.tanh()
        return o * c.tanh(), c


class _Sequences(nn.Module):
    """The levels of rows, their embeddings, and a cell.

    Attributes:
        sequential: that the data have to be sequences of levels.
        is_smooth: whether it is C² in its input.
    """

    sequential: ClassVar[bool] = True
    is_smooth: ClassVar[bool] = True

    def __init__(
        self, data_shape: Sequence[int], hidden: int, embedding: int | None, others: int
    ) -> None:
        super().__init__()
        for name, size in {"hidden": hidden, "embedding": embedding}.items():
            if size is not None and size < 1:
                raise SettingError(name, f"is {size}: set it to 1 or more")
        if len(data_shape) != 2:
            raise InputError(f"data_shape is {tuple(data_shape)}: give (length, levels)")
        self.length, self.levels = data_shape
        width = hidden if embedding is None else embedding
        self.words = nn.Parameter(torch.randn(self.levels + others, width))
        self.inputs = initialized(nn.Linear(width, 4 * hidden), gain=1.0)
        self.cell = Cell(hidden)

    def tokens(self, x: Float[Tensor, "*B T"]) -> Tokens:
        """The levels of x = k/(L − 1)."""
        return (x * (self.levels - 1)).round().long()

    def gates(self, tokens: Tokens) -> Float[Tensor, "*B T G"]:
        """What goes into the gates at each step; that of padding means nothing."""
        bias = self.inputs.bias + self.cell.bias
        return linear(embedding(tokens.clamp_min(0), self.words), self.inputs.weight, bias)


@ENCODERS.register("lstm")
class LSTMEncoder(_Sequences):
    """An affine function of the last state of an LSTM that has read the sequence.

    Args:
        data_shape: (T, L), the length and the number of levels.
        out_dim: P.
        hidden: the number of units.
        embedding: the size of a word's vector; None for that of ``hidden``.
    """

    def __init__(
        self, data_shape: Sequence[int], out_dim: int, *, hidden: int, embedding: int | None = None
    ) -> None:
        super().__init__(data_shape, hidden, embedding, others=0)
        self.head = initialized(nn.Linear(hidden, out_dim), gain=1.0)
        shrink_output(self.head)

    def forward(self, x: Float[Tensor, "*B T"]) -> Float[Tensor, "*B P"]:
        """The outputs, one vector for each sequence."""
        tokens = self.tokens(x).flatten(0, -2)
        gates, there = self.gates(tokens), (tokens >= 0).unsqueeze(-1)
        h = c = gates.new_zeros(len(gates), self.cell.hidden)
        for step, known in zip(gates.unbind(dim=1), there.unbind(dim=1), strict=True):
            moved, memory = self.cell(step, h, c)
            # The state stays that of the last word.
            h, c = torch.where(known, moved, h), torch.where(known, memory, c)
        return self.head(h).unflatten(0, x.shape[:-1])


@DECODERS.register("lstm")
class LSTMDecoder(_Sequences, ConditionalDecoder):
    """The logits of every entry by an LSTM that has read z and the entries before it.

    The code z gives the first state (Kim et al. 2018, arXiv 1802.02550), and goes into the gates
    and the logits of every step. Words are dropped in training, as inputs (Bowman et al. 2016,
    arXiv 1511.06349): which ones is drawn once for a batch, so that its inner problem is one
    function. At padding the logits do not depend on z.

    Args:
        latent_dim: d.
        data_shape: (T, L), the length and the number of levels.
        hidden: the number of units.
        embedding: the size of a word's vector; None for that of ``hidden``.
        word_dropout: the probability with which an input is replaced by a word of its own.
    """

    autoregressive: ClassVar[bool] = True

    def __init__(
        self,
        latent_dim: int,
        data_shape: Sequence[int],
        *,
        hidden: int,
        embedding: int | None = None,
        word_dropout: float = 0.0,
    ) -> None:
        # One word stands for what was dropped, another one for the beginning.
        super().__init__(data_shape, hidden, embedding, others=2)
        if not 0.0 <= word_dropout < 1.0:
            raise SettingError("word_dropout", f"is {word_dropout}: set it to 0 or more, below 1")
        self.word_dropout = word_dropout
        self.first = initialized(nn.Linear(latent_dim, hidden), gain=1.0)
        self.code = initialized(nn.Linear(latent_dim, 4 * hidden), gain=1.0)
        self.head = initialized(nn.Linear(hidden + latent_dim, self.levels), gain=1.0)

    def context(self, x: Observations) -> Tokens:
        """The words, some of them dropped in training."""
        tokens = self.tokens(x)
        if not self.training or self.word_dropout == 0.0:
            return tokens
        dropped = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
        return torch.where(dropped & (tokens >= 0), self.levels, tokens)

    def forward(self, z: Float[Tensor, "*S B d"], context: Tokens) -> Float[Tensor, "*S B TL"]:
        """The logits."""
        return self.read(z, context, self.seen(context))

    def prepared(self, context: Tokens) -> Callable[[Tensor], Tensor]:
        """With what the words send to the gates."""
        if type(self).forward is not LSTMDecoder.forward or not is_plain(self):
            return super().prepared(context)
        return partial(self.read, context=context, seen=self.seen(context))

    def read(
        self, z: Float[Tensor, "*S B d"], context: Tokens, seen: Float[Tensor, "T B G"]
    ) -> Float[Tensor, "*S B TL"]:
        """The logits."""
        gates = self.given_code(seen, z).flatten(1, -2)
        h = self.first(z).flatten(0, -2)
        c, states = torch.zeros_like(h), []
        for step in gates.unbind(dim=0):
            h, c = self.cell(step, h, c)
            states.append(h)
        batch = *z.shape[:-1], len(seen)
        parts = torch.stack(states, dim=1).view(*batch, -1), z.unsqueeze(-2).expand(*batch, -1)
        # At padding the logits do not depend on z.
        return self.head(torch.cat(parts, dim=-1) * (context >= 0).unsqueeze(-1)).flatten(-2)

    def seen(self, context: Tokens) -> Float[Tensor, "T B G"]:
        """What the words before each step send to its gates, whatever z is."""
        begin = torch.full_like(context[:, :1], self.levels + 1)
        return self.gates(torch.cat([begin, context[:, :-1]], dim=-1)).movedim(-2, 0)

    def given_code(
        self, seen: Float[Tensor, "T B G"], z: Float[Tensor, "*S B d"]
    ) -> Float[Tensor, "T *S B G"]:
        """What the words and z send to the gates of each step."""
        return seen.view(len(seen), *(1,) * (z.ndim - 2), *seen.shape[1:]) + self.code(z)

    def without_graph(self, context: Tokens) -> Reader | None:
        """The logits as a function of z that knows its first derivatives.

        None where somebody looks on, or has changed what a part of it does.
        """
        plain = type(self) is LSTMDecoder and all(map(is_plain, self.modules()))
        return Reader(self, context) if plain else None


class Reader:
    """z ↦ o_θ(z, context) without a graph, for one θ; what depends on no z is computed once.

    Args:
        decoder: o_θ.
        context: the words of a batch.
    """

    def __init__(self, decoder: LSTMDecoder, context: Tokens) -> None:
        self.decoder, self.context = decoder, context

    @cached_property
    @torch.no_grad()
    def seen(self) -> Float[Tensor, "T B G"]:
        """What the words, and no z, send to the gates."""
        return self.decoder.seen(self.context)

    @cached_property
    def known(self) -> Float[Tensor, "B T 1"] | None:
        """Zeros at padding; None where there is none."""
        known = self.context >= 0
        return None if bool(known.all()) else known.unsqueeze(-1).to(self.seen)

    @torch.no_grad()
    def __call__(self, z: Float[Tensor, "*S B d"]) -> Pulled:
        """The logits of those codes."""
        decoder, batch = self.decoder, z.shape[:-1]
        gates = decoder.given_code(self.seen, z).flatten(1, -2)
        passed = trace(gates, decoder.first(z).flatten(0, -2), decoder.cell.recurrent)
        states = passed.states.movedim(0, 1).unflatten(0, batch)
        both = torch.cat([states, z.unsqueeze(-2).expand(*states.shape[:-1], -1)], dim=-1)
        if self.known is not None:
            both *= self.known
        return Pulled(self, passed, decoder.head(both).flatten(-2))


class Pulled(NamedTuple):
    """The logits of some codes, and what their derivatives are made of."""

    reader: Reader
    passed: Trace
    value: Float[Tensor, "*S B TL"]

    @torch.no_grad()
    def pull_back(self, cotangent: Float[Tensor, "*S B TL"]) -> Float[Tensor, "*S B d"]:
        """A cotangent of the logits to the codes."""
        decoder = self.reader.decoder
        both = cotangent.unflatten(-1, (-1, decoder.levels)) @ decoder.head.weight
        if self.reader.known is not None:
            both *= self.reader.known
        hidden = decoder.cell.hidden
        of_gates, of_first = self.passed.pull_back(both[..., :hidden].flatten(0, -3).movedim(1, 0))
        pulled = of_gates @ decoder.code.weight + of_first @ decoder.first.weight
        return pulled.unflatten(0, cotangent.shape[:-1]) + both[..., hidden:].sum(dim=-2)
