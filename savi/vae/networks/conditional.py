"""Decoders that are given more of an example than its code: o = o_θ(z, c)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Protocol

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import one_hot

from savi.types import Index, Observations
from savi.vae.networks.base import is_plain

#: What the decoder is given, one row for each example.
Context = Shaped[Tensor, "B ..."]


class Differentiated(Protocol):
    """Outputs at some codes without a graph, and the way back."""

    @property
    def value(self) -> Float[Tensor, "*S B F"]:
        """The outputs."""

    def pull_back(self, cotangent: Float[Tensor, "*S B F"]) -> Float[Tensor, "*S B d"]:
        """From a cotangent of the outputs to the codes."""


class ConditionalDecoder(nn.Module, ABC):
    """A decoder from codes [..., B, d] and the contexts of B examples to outputs.

    Attributes:
        autoregressive: whether the context is x itself, of which output i sees what comes before i.
    """

    autoregressive: ClassVar[bool] = False

    @abstractmethod
    def context(self, x: Observations) -> Context:
        """What is given of these rows."""

    @abstractmethod
    def forward(self, z: Float[Tensor, "*S B d"], context: Context) -> Float[Tensor, "*S B F"]:
        """The outputs."""

    def prepared(self, context: Context) -> Callable[[Tensor], Tensor]:
        """Z ↦ o_θ(z, c), with what depends on c alone computed already, if there is such a thing.

        Calls share the graph of that, so that they are backpropagated together, once.
        """
        return partial(self, context=context)

    def without_graph(self, context: Context) -> Callable[[Tensor], Differentiated] | None:
        """The outputs as a function of z that knows its first derivatives, if there is one."""
        return None


class Given(nn.Module):
    """z ↦ o_θ(z, c) for the contexts of some examples: a decoder like any other.

    Args:
        decoder: o_θ.
        x: the examples.
        context: theirs; taken from them by default.
    """

    def __init__(
        self, decoder: ConditionalDecoder, x: Observations, context: Context | None = None
    ) -> None:
        super().__init__()
        self.decoder, self.x = decoder, x
        self.context = decoder.context(x) if context is None else context
        self._prepared: Callable[[Tensor], Tensor] | None = None

    def forward(self, z: Float[Tensor, "*S B d"]) -> Float[Tensor, "*S B F"]:
        """The outputs."""
        return self.decoder(z, self.context) if self._prepared is None else self._prepared(z)

    def for_one_backward(self) -> Given:
        """The same, for calls whose graphs are backpropagated together, once."""
        made = Given(self.decoder, self.x, self.context)
        made._prepared = self.decoder.prepared(self.context)
        return made

    def without_graph(self) -> Callable[[Tensor], Differentiated] | None:
        """The decoder's own."""
        return self.decoder.without_graph(self.context) if is_plain(self) else None

    def rows(self, index: Index | slice) -> Given:
        """Of some of the examples, whose contexts stay the same."""
        return Given(self.decoder, self.x[index], self.context[index])


class LabelledDecoder(ConditionalDecoder):
    """A decoder of z and a class, which lies behind the D entries of a row, as a one-hot vector.

    Args:
        decoder: any decoder, of d + ``classes`` inputs.
        dim: D.
        classes: their number.
    """

    def __init__(self, decoder: nn.Module, dim: int, classes: int) -> None:
        super().__init__()
        self.decoder, self.dim, self.classes = decoder, dim, classes

    def context(self, x: Observations) -> Context:
        """The one-hot vectors."""
        return one_hots(x[..., self.dim], self.classes)

    def forward(self, z: Float[Tensor, "*S B d"], context: Context) -> Float[Tensor, "*S B F"]:
        """The outputs."""
        classes = context.expand(*z.shape[:-1], self.classes)
        return self.decoder(torch.cat([z, classes], dim=-1))


class LabelledEncoder(nn.Module):
    """An encoder of x and its class, which lies behind the D entries of a row.

    Args:
        encoder: any encoder, of D + ``classes`` inputs.
        classes: their number.
    """

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder, self.classes = encoder, classes

    def forward(self, x: Observations) -> Float[Tensor, "B P"]:
        """The variational parameters."""
        classes = one_hots(x[..., -1], self.classes)
        return self.encoder(torch.cat([x[..., :-1], classes], dim=-1))


def one_hots(labels: Float[Tensor, "*B"], classes: int) -> Float[Tensor, "*B C"]:
    """The classes as vectors, in the type in which a row holds them."""
    return one_hot(labels.long(), classes).to(labels)
