"""JᵀΓ⁻¹J of a perceptron, the Gauss–Newton matrix of a code, with its derivative in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.functional import linear

from savi.types import Codes
from savi.vae.perceptron import Layer, Perceptron
from savi.vae.quadratic import head_metric, symmetric_form
from savi.vae.short_format import short_format

#: Tᵀ of every example: row i is the derivative of a layer's output in z_i.
Tangents: TypeAlias = Float[Tensor, "B d F"]
Gram: TypeAlias = Float[Tensor, "B d d"]


def has_closed_gram(chain: Perceptron | None) -> bool:
    """Whether :func:`closed_gram` is for this chain, and for what is going on around it.

    Hidden layers with two known derivatives lead to an affine head; a custom function knows neither
    transforms of ``torch.func`` nor forward mode.
    """
    if chain is None or len(chain.layers) < 2:
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        return False
    return chain.layers[-1].apply is None and all(
        type(layer.affine) is nn.Linear
        and (layer.apply is None or (layer.derivative and layer.second_derivative))
        for layer in chain.layers
    )


def closed_gram(
    chain: Perceptron, z: Codes, gamma: Float[Tensor, "#D"], shared: SharedPass | None = None
) -> Gram:
    """K = JᵀΓ⁻¹J at z, differentiable to every order.

    With the tangents T_l = ∂h_l/∂z = diag(φ'_l) W_l T_{l−1} of the hidden layers, the head's
    weights W and M = WᵀΓ⁻¹W (or, where there are fewer data dimensions than features, T_L = W T and
    M = Γ⁻¹), K = TᵀMT. A cotangent C of K, with G = C + Cᵀ, is one of MTG for T and of T C Tᵀ for
    M, and the rest is the chain's own backward: about two products for each of the forward's, where
    autograd through d forward-mode tangents takes twice that and keeps a graph for it.

    In full precision, whatever an autocast around it says, unless :func:`short_format` is allowed.
    ``shared`` gets what it can use.
    """
    parameters = parameters_of(chain)
    with torch.autocast(z.device.type, enabled=False):
        kept = shared is not None and shared.keeps and short_format(gamma) is None
        if not torch.is_grad_enabled() and not kept:
            return _plain_gram(chain, z.to(gamma.dtype), gamma, parameters)
        return _ClosedGram.apply(chain, shared, z.to(gamma.dtype), gamma, *parameters)


def parameters_of(chain: Perceptron) -> list[Tensor | None]:
    """The weight and the bias of every layer, in its order."""
    return [tensor for layer in chain.layers for tensor in _parameters(layer)]


class SharedPass:
    """The hidden layers, and the head, at the codes of the last Gauss–Newton matrix.

    In an outer step the covariance of a Laplace posterior and the Hessian of the implicit function
    theorem ask for the same d tangents at the same codes. Kept are those of matrices that are
    computed inside :meth:`keeping`; they are given once, to whoever asks for the same codes while
    the weights are as they were.
    """

    def __init__(self) -> None:
        self.keeps = False
        self._kept: tuple[list[Hidden], Head, Codes, Tensor, list[tuple[int, int]]] | None = None

    def __reduce__(self) -> tuple[type[SharedPass], tuple[()]]:
        """A copy holds nothing."""
        return SharedPass, ()

    @property
    def holds(self) -> bool:
        """Whether anything is kept."""
        return self._kept is not None

    @contextmanager
    def keeping(self, wanted: bool = True) -> Iterator[None]:
        """Forget what was kept, and keep the next if that is wanted."""
        self._kept, self.keeps = None, wanted
        try:
            yield
        finally:
            self.keeps = False

    def keep(
        self, passed: list[Hidden], head: Head, gamma: Tensor, parameters: Sequence[Tensor | None]
    ) -> None:
        """Where the head is wide, and somebody has asked to keep."""
        if self.keeps and head.folded:
            codes = passed[0].before.clone()
            self._kept = passed, head, codes, gamma.clone(), _versions(parameters)

    def take(self, chain: Perceptron, z: Codes, gamma: Tensor) -> tuple[list[Hidden], Head] | None:
        """What is kept, if it is for these codes, this γ and these weights."""
        if self._kept is None:
            return None
        passed, head, codes, variance, versions = self._kept
        same = z.dtype == codes.dtype and torch.equal(z, codes) and torch.equal(gamma, variance)
        if not same or versions != _versions(parameters_of(chain)):
            return None
        self._kept = None
        return passed, head


def _versions(parameters: Sequence[Tensor | None]) -> list[tuple[int, int]]:
    """What tells weights from changed or other ones."""
    return [(p.data_ptr(), p._version) for p in parameters if p is not None]


def wide_head_metric(
    chain: Perceptron | None, gamma: Float[Tensor, "#D"]
) -> Float[Tensor, "F F"] | None:
    """WᵀΓ⁻¹W, where a chain ends in an affine head that widens its features; None elsewhere."""
    if chain is None or len(chain.layers) < 2:
        return None
    head = chain.layers[-1]
    if head.apply is not None or type(head.affine) is not nn.Linear:
        return None
    weight = head.affine.weight
    return head_metric(weight, gamma) if weight.shape[0] > weight.shape[1] else None


def _gram(chain: Perceptron, z: Codes, gamma: Tensor, parameters: Sequence[Tensor | None]) -> Gram:
    weight = parameters[-2]
    assert weight is not None
    return Head.of(weight, gamma, hidden_pass(chain, z, parameters)[-1].tangents).gram


def _plain_gram(
    chain: Perceptron, z: Codes, gamma: Tensor, parameters: Sequence[Tensor | None]
) -> Gram:
    """K alone, which takes less than what its derivative needs besides; in short if it may be."""
    metric = wide_head_metric(chain, gamma)
    if metric is None:
        return _gram(chain, z, gamma, parameters)
    return symmetric_form(chain.below_head()(z).jacobian(short_format(metric)), metric)


def _parameters(layer: Layer) -> tuple[Tensor, Tensor | None]:
    return layer.affine.weight, layer.affine.bias


class Hidden(NamedTuple):
    """A hidden layer l of a pass: h_{l−1}, a_l, h_l, φ'_l, S_l = W_l T_{l−1} and T_l."""

    before: Codes
    a: Codes
    h: Codes
    factor: Codes | None
    images: Tangents
    tangents: Tangents


@dataclass(frozen=True)
class Head:
    """Where the tangents end: K = TᵀMT, with MT as ``images``; ``folded`` tells the two M apart."""

    tangents: Tangents
    images: Tangents
    folded: bool

    @classmethod
    def of(cls, weight: Tensor, gamma: Tensor, tangents: Tangents) -> Head:
        """The cheaper form."""
        if weight.shape[0] <= weight.shape[1]:
            tangents = rows_times(tangents, weight.mT)
            return cls(tangents, tangents / gamma, folded=False)
        return cls(tangents, rows_times(tangents, head_metric(weight, gamma)), folded=True)

    @property
    def gram(self) -> Gram:
        """K."""
        return self.images @ self.tangents.mT


def rows_times(
    rows: Float[Tensor, "B d F"], matrix: Float[Tensor, "F E"]
) -> Float[Tensor, "B d E"]:
    """Every row times a matrix, in one product."""
    return (_flat(rows) @ matrix).reshape(*rows.shape[:2], matrix.shape[-1])


def _flat(rows: Float[Tensor, "B d F"]) -> Float[Tensor, "Bd F"]:
    """The rows of all examples; by ``reshape``, as batched cotangents know no ``flatten``."""
    return rows.reshape(-1, rows.shape[-1])


def hidden_pass(chain: Perceptron, z: Codes, parameters: Sequence[Tensor | None]) -> list[Hidden]:
    """The hidden layers at z, by differentiable operations."""
    passed: list[Hidden] = []
    h = z
    for i, layer in enumerate(chain.layers[:-1]):
        weight, bias = parameters[2 * i], parameters[2 * i + 1]
        assert weight is not None
        a = linear(h, weight, bias)
        after = a if layer.apply is None else layer.apply(a)
        factor = None if layer.derivative is None else layer.derivative(a, after)
        if passed:
            images = rows_times(passed[-1].tangents, weight.mT)
        else:
            images = weight.mT.contiguous().expand(len(z), -1, -1)
        tangents = images if factor is None else images * factor.unsqueeze(-2)
        passed.append(Hidden(h, a, after, factor, images, tangents))
        h = after
    return passed


class _ClosedGram(torch.autograd.Function):
    """K from z, γ, and the weights and biases in the chain's order."""

    @staticmethod
    def forward(
        ctx: Any,
        chain: Perceptron,
        shared: SharedPass | None,
        z: Codes,
        gamma: Tensor,
        *parameters: Tensor | None,
    ) -> Gram:
        # What is kept must not keep the graph of z.
        constants = [None if p is None else p.detach() for p in parameters]
        passed = hidden_pass(chain, z.detach(), constants)
        weight = constants[-2]
        assert weight is not None
        head = Head.of(weight, gamma, passed[-1].tangents)
        ctx.chain, ctx.passed, ctx.head = chain, passed, head
        if shared is not None:
            shared.keep(passed, head, gamma, parameters)
        ctx.save_for_backward(z, gamma, *parameters)
        return head.gram

    @staticmethod
    def backward(ctx: Any, c: Gram) -> tuple[Tensor | None, ...]:
        with torch.autocast(c.device.type, enabled=False):
            return None, None, *_cotangents(ctx, c)


def _cotangents(ctx: Any, c: Gram) -> list[Tensor | None]:
    """Those of z, γ and the parameters."""
    z, gamma, *parameters = ctx.saved_tensors
    needed = ctx.needs_input_grad[2:]
    if torch.is_grad_enabled():
        return _by_autograd(ctx.chain, z, gamma, parameters, c, needed)
    passed, head, weight = ctx.passed, ctx.head, parameters[-2]
    found: list[Tensor | None] = [None] * len(parameters)
    by_tangents = (c + c.mT) @ head.images
    by_gamma, found[-2], by_tangents = _through_head(
        head, c, by_tangents, weight, gamma, passed[-1].tangents, needed[1], needed[-2]
    )
    by_h = torch.zeros_like(passed[-1].h)
    for i in reversed(range(len(passed))):
        layer, weight = passed[i], parameters[2 * i]
        by_a = by_h
        if layer.factor is not None:
            second = ctx.chain.layers[i].second_derivative(layer.a, layer.h)
            by_factor = (by_tangents * layer.images).sum(dim=-2)
            by_a = torch.addcmul(layer.factor * by_h, second, by_factor)
            by_tangents = by_tangents.mul_(layer.factor.unsqueeze(-2))
        if needed[2 + 2 * i]:
            rows = _flat(by_tangents)
            before = _flat(passed[i - 1].tangents) if i else None
            by_images = by_tangents.sum(dim=0).mT if before is None else rows.mT @ before
            found[2 * i] = torch.addmm(by_images, by_a.mT, layer.before)
        if parameters[2 * i + 1] is not None and needed[3 + 2 * i]:
            found[2 * i + 1] = by_a.sum(dim=0)
        by_h = by_a @ weight
        if i:
            by_tangents = rows_times(by_tangents, weight)
    return [by_h, by_gamma, *found]


def _through_head(
    head: Head, c: Gram, by_tangents: Tangents, weight: Tensor, gamma: Tensor,
    hidden: Tangents, for_gamma: bool, for_weight: bool,
) -> tuple[Tensor | None, Tensor | None, Tangents]:  # fmt: skip
    """The cotangents of γ, of the head's weights, and of the last hidden tangents."""
    by_gamma = by_weight = None
    ends = head.tangents
    pairs = _flat(c @ ends), _flat(ends)
    if head.folded:
        if for_gamma or for_weight:
            by_metric = pairs[0].mT @ pairs[1]
            if for_weight:
                by_weight = (weight @ (by_metric + by_metric.mT)) / gamma.unsqueeze(-1)
            if for_gamma:
                by_gamma = -((weight @ by_metric) * weight).sum(dim=-1) / gamma.square()
    else:
        if for_gamma:
            by_gamma = -(pairs[0] * pairs[1]).sum(dim=0) / gamma.square()
        if for_weight:
            by_weight = _flat(by_tangents).mT @ _flat(hidden)
        by_tangents = rows_times(by_tangents, weight)
    if by_gamma is not None and len(gamma) == 1:
        by_gamma = by_gamma.sum(dim=0, keepdim=True)
    return by_gamma, by_weight, by_tangents


def _by_autograd(
    chain: Perceptron, z: Codes, gamma: Tensor, parameters: Sequence[Tensor | None], c: Gram,
    needed: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """The cotangents with a graph of their own, by the same operations under autograd.

    Of aliases of the inputs: autograd then stops there, where z may depend on the weights or on γ,
    and tells two layers with the same weights apart.
    """
    z, gamma = z.view_as(z), gamma.view_as(gamma)
    aliases = [None if x is None else x.view_as(x) for x in parameters]
    gram, inputs = _gram(chain, z, gamma, aliases), [z, gamma, *aliases]
    wanted = [i for i, need in enumerate(needed) if need]
    chosen = [x for x, need in zip(inputs, needed, strict=True) if need and x is not None]
    slopes = torch.autograd.grad(gram, chosen, c, create_graph=True, allow_unused=True)
    found: list[Tensor | None] = [None] * len(inputs)
    for i, slope in zip(wanted, slopes, strict=True):
        found[i] = slope
    return found
