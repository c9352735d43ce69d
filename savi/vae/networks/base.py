"""What every decoder and every encoder has in common: its constructor, its trunk and its head."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral

from jaxtyping import Float
from torch import Tensor, nn

from savi.errors import InputError, SettingError
from savi.registry import Registry
from savi.vae.networks.activations import is_smooth
from savi.vae.networks.initialization import shrink_output

DECODERS: Registry[Callable[..., nn.Module]] = Registry("decoder", supplied=2)
ENCODERS: Registry[Callable[..., nn.Module]] = Registry("encoder", supplied=2)


def _check_at_least(minimum: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, Integral) or size < minimum:
            raise SettingError(name, f"is {size!r}: set it to an integer >= {minimum}")


def _checked_shape(data_shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(data_shape)
    if not shape or any(not isinstance(size, Integral) or size < 1 for size in shape):
        raise InputError(
            f"data_shape is {shape}: set it to the shape of one example, such as (784,) or "
            "(1, 28, 28), with every size at least 1"
        )
    return shape


class Network(nn.Module, ABC):
    """head(trunk(input)), where the head is affine.

    Attributes:
        data_shape: the shape of one example; D is its product.
        trunk: everything but the last affine layer; the identity where there is nothing else.
        head: the last affine layer, an ``nn.Linear`` unless the network ends in a convolution.
        is_smooth: whether the network is C² in its input (see :func:`is_smooth`).
    """

    trunk: nn.Module
    head: nn.Module

    def __init__(
        self, data_shape: Sequence[int], *, hidden: int, depth: int, activation: str
    ) -> None:
        super().__init__()
        self.data_shape = _checked_shape(data_shape)
        _check_at_least(1, hidden=hidden)
        _check_at_least(0, depth=depth)
        self.is_smooth = is_smooth(activation) or depth == 0

    @property
    def data_dim(self) -> int:
        """D, the number of entries of one example."""
        return math.prod(self.data_shape)

    @abstractmethod
    def layers(self, hidden: int, depth: int, activation: str) -> list[nn.Module]:
        """The layers in order, each from flat vectors to flat vectors; the last one is affine."""

    def _assemble(self, hidden: int, depth: int, activation: str) -> None:
        *trunk, head = self.layers(hidden, depth, activation)
        shrink_output(head)
        self.trunk = nn.Sequential(*trunk) if trunk else nn.Identity()
        self.head = head


class Decoder(Network):
    """The mean of p(x|z), μ(z) = head(trunk(z)), for flat codes and flat data.

    A subclass says what its :meth:`layers` are. All of them can be differentiated twice, and under
    ``torch.func``.

    Args:
        latent_dim: d, the dimension of z.
        data_shape: the shape of one example; the output has D entries, its product.
        hidden: the width: units of a hidden layer, or channels of the first scale.
        depth: the number of hidden layers, blocks or scales; at 0 the mean is affine in z
            (probabilistic principal component analysis).
        activation: a name in ``ACTIVATIONS``.

    Raises:
        InputError: for a size out of range or an unknown activation.
    """

    def __init__(
        self,
        latent_dim: int,
        data_shape: Sequence[int],
        *,
        hidden: int,
        depth: int,
        activation: str,
    ) -> None:
        _check_at_least(1, latent_dim=latent_dim)
        super().__init__(data_shape, hidden=hidden, depth=depth, activation=activation)
        self.latent_dim = latent_dim
        self._assemble(hidden, depth, activation)

    def forward(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D"]:
        """The mean of p(x|z), one for each code."""
        return self.head(self.trunk(z))


class Encoder(Network):
    """The body of an inference network, from flat data to ``out_dim`` numbers for each example.

    Args:
        data_shape: the shape of one example; the input has D entries, its product.
        out_dim: P, the number of variational parameters (or features) of an example.
        hidden: the width: units of a hidden layer, or channels of the first scale.
        depth: the number of hidden layers, blocks or scales; at 0 the encoder is affine.
        activation: a name in ``ACTIVATIONS``.

    Raises:
        InputError: for a size out of range or an unknown activation.
    """

    def __init__(
        self, data_shape: Sequence[int], out_dim: int, *, hidden: int, depth: int, activation: str
    ) -> None:
        _check_at_least(1, out_dim=out_dim)
        super().__init__(data_shape, hidden=hidden, depth=depth, activation=activation)
        self.out_dim = out_dim
        self._assemble(hidden, depth, activation)

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch P"]:
        """The outputs, one vector for each example."""
        return self.head(self.trunk(x))


def is_plain(module: nn.Module) -> bool:
    """Whether a module does what its type says: without a hook or a ``forward`` of its own.

    Those are the user's code (as is the weight normalisation of ``torch.nn.utils``, a hook).
    """
    hooks = (
        *(module._forward_pre_hooks, module._forward_hooks),
        *(module._backward_pre_hooks, module._backward_hooks),
    )
    return not any(hooks) and "forward" not in vars(module)


def trunk_and_head(network: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """The parts of a network that is head(trunk(input)) and nothing besides; None for another."""
    if type(network).forward not in (Decoder.forward, Encoder.forward) or not is_plain(network):
        return None
    assert isinstance(network, Network)
    return network.trunk, network.head


def leaves(network: nn.Module) -> list[nn.Module]:
    """The modules that the network applies one after another; itself where it is no sequence."""
    parts: tuple[nn.Module, ...] | None = trunk_and_head(network)
    if parts is None and type(network) is nn.Sequential and is_plain(network):
        parts = tuple(network)
    return [network] if parts is None else [leaf for part in parts for leaf in leaves(part)]
