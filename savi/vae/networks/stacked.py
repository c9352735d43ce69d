"""Networks of R models as one: each model has its own weights and its own batch."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from savi.vae.networks.activations import activation_of
from savi.vae.networks.base import leaves


def stack_networks(networks: Sequence[nn.Module]) -> nn.Module:
    """One network from [..., R, B, in] to [..., R, B, out] whose r-th slice is ``networks[r]``.

    The weights are shared, not copied: those of the networks become views of the stacked ones,
    and so do their gradients. Chains of affine maps and activations become chains of batched
    products, with closed-form derivatives (:class:`savi.vae.perceptron.Perceptron`); all else goes
    through ``torch.func.vmap``.

    Args:
        networks: R networks of one architecture.
    """
    parts = [leaves(network) for network in networks]
    if all(type(leaf) in (nn.Linear, nn.Identity) or activation_of(leaf) for leaf in parts[0]):
        return nn.Sequential(*(_stack_leaves(same) for same in zip(*parts, strict=True)))
    return StackedNetwork(networks)


class StackedLinear(nn.Module):
    """h ↦ h W_rᵀ + b_r for the batch h [B, in] of every model r.

    Args:
        layers: R affine layers of one shape.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        biases = [layer.bias for layer in layers if layer.bias is not None]
        self.weight = shared([layer.weight for layer in layers])
        self.bias = shared(biases) if biases else None

    def forward(self, h: Float[Tensor, "*S R B in"]) -> Float[Tensor, "*S R B out"]:
        """The outputs."""
        weight = self.weight.mT
        if self.bias is None:
            return h @ weight
        bias = self.bias.unsqueeze(-2)
        if h.shape[:-3].numel() > 1:
            return h @ weight + bias
        # A product and a sum in one.
        return torch.baddbmm(bias, h.reshape(h.shape[-3:]), weight).reshape(*h.shape[:-1], -1)


class StackedNetwork(nn.Module):
    """Any network, vectorised over the models.

    Args:
        networks: R networks of one architecture, without buffers that change.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self._names = [name for name, _ in networks[0].named_parameters()]
        every = zip(*(network.parameters() for network in networks), strict=True)
        self.weights = nn.ParameterList([shared(list(parameters)) for parameters in every])
        self._skeleton = [deepcopy(networks[0])]  # in a list: its weights are not this module's

    def forward(self, h: Float[Tensor, "*S R B in"]) -> Float[Tensor, "*S R B out"]:
        """The outputs."""
        # Views, because whoever watches for the weights does not see into the transform.
        pairs = zip(self._names, self.weights, strict=True)
        weights = {name: weight.view_as(weight) for name, weight in pairs}

        def apply(weights: dict[str, Tensor], h: Tensor) -> Tensor:
            return functional_call(self._skeleton[0], weights, (h,))

        return vmap(apply, in_dims=(0, -3), out_dims=-3)(weights, h)


def _stack_leaves(layers: Sequence[nn.Module]) -> nn.Module:
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    # Activations have no weights: one serves for all.
    return StackedLinear(linear) if linear else layers[0]


def shared(parameters: Sequence[Tensor]) -> nn.Parameter:
    """One parameter [R, ...] of which the given ones become the slices, and likewise its gradient.

    An optimiser of either moves both. The gradient has to be set to zero, not to None: a new one
    would have no slices.
    """
    whole = nn.Parameter(torch.stack([p.detach() for p in parameters]))
    whole.grad = torch.zeros_like(whole)
    for parameter, data, gradient in zip(parameters, whole.data, whole.grad, strict=True):
        parameter.data = data
        parameter.grad = gradient
    return whole
