"""log p(x|z) of a batch as a function of the codes, by the cheapest way that is exact."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Self, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.errors import unknown_option
from savi.types import Codes, Index, Observations
from savi.vae.expansion import Expansion
from savi.vae.gram import wide_head_metric
from savi.vae.likelihoods import GaussianLikelihood
from savi.vae.model import VAE, jacobian
from savi.vae.networks.base import is_plain, trunk_and_head
from savi.vae.networks.conditional import Differentiated, Given
from savi.vae.perceptron import Pass, Perceptron
from savi.vae.quadratic import (
    FeatureQuadratic,
    OutputTerms,
    PixelQuadratic,
    Quadratic,
    symmetric_form,
    times_half,
)
from savi.vae.short_format import short_format

#: Codes of a batch, and a number for each of them.
Points: TypeAlias = Float[Tensor, "*S B d"]
Values: TypeAlias = Float[Tensor, "*S B"]

#: The choices of ``inner.linear_head``.
LINEAR_HEAD = ("auto", "off")


class DataFit:
    """z ↦ f(o(z)) = log p(x|z), with o a part of the decoder and f a function of what it gives.

    Either o is the whole decoder and f is a sum over the D dimensions of x; or, where f is
    quadratic, o may be the decoder's trunk, f the quadratic that the affine head makes of its
    features, and the data are touched once for all evaluations (:meth:`linear_head`).

    Where o is a perceptron, gradients and Hessians without a graph have closed forms, and where f
    is quadratic gradients with one; gradients without a graph also where o is a conditional decoder
    that has them. Elsewhere they are left to autograd.

    Args:
        model: p(x|z), which counts the codes that are decoded.
        network: o.
        terms: f.
    """

    def __init__(self, model: VAE, network: nn.Module, terms: OutputTerms) -> None:
        self.model, self.network, self.terms = model, network, terms
        self.chain = Perceptron.of(network)
        #: o without a graph, for first derivatives: a :attr:`chain`, or what else knows them.
        self.first = self._first()
        #: Whether :meth:`gradient` is differentiable.
        self.smooth = self.chain is not None and isinstance(terms, Quadratic)
        #: The pass where a solve begins, which has been made for the statistics of a head.
        self._begun: Pass | None = None
        #: WᵀΓ⁻¹W of an affine head, once a Gauss–Newton matrix has asked for it.
        self._metric: Tensor | None = None

    @classmethod
    def direct(cls, model: VAE, x: Observations) -> Self:
        """With the whole decoder as o."""
        return cls(model, model.given(x).decoder, model.likelihood.terms(x))

    @classmethod
    def linear_head(cls, model: VAE, x: Observations, reference: Codes) -> Self:
        """With the trunk as o, and the features of the codes ``reference`` as h0."""
        model.decoder_evaluations += len(x)
        head, trunk = head_of(model), model.decoder.trunk
        gamma = model.likelihood.equal_variance()
        assert head is not None
        assert gamma is not None
        assert isinstance(trunk, nn.Module)
        chain = Perceptron.of(trunk)
        with torch.no_grad():
            begun = None if chain is None else chain(reference.detach())
            h0 = trunk(reference.detach()) if begun is None else begun.value
        fit = cls(model, trunk, FeatureQuadratic.of(head, gamma, x, h0))
        fit._begun = begun
        return fit

    def rows(self, index: Index) -> Self:
        """Of some of the examples."""
        few = copy(self)
        few.terms, few._begun = self.terms.rows(index), None
        if isinstance(self.network, Given):
            few.network = self.network.rows(index)
            few.first = few._first()
        return few

    def for_one_backward(self) -> Self:
        """The same, for values whose graphs are backpropagated together, once."""
        if not isinstance(self.network, Given):
            return self
        shared = copy(self)
        shared.network = self.network.for_one_backward()
        return shared

    def _first(self) -> Callable[[Tensor], Differentiated] | None:
        return self.network.without_graph() if isinstance(self.network, Given) else self.chain

    def __call__(self, z: Points) -> Values:
        """The values of log p(x|z), for autograd."""
        self.count(z)
        return self.terms.value(self.network(z))

    def count(self, z: Float[Tensor, "*batch d"], tangents: int = 0) -> None:
        """Add to the model's count of decoded codes."""
        # A compiled graph would be compiled again for every value of the counter.
        if not torch.compiler.is_compiling():
            self.model.decoder_evaluations += (1 + tangents) * z.shape[:-1].numel()

    def gradient(self, z: Points) -> tuple[Values, Points]:
        """The values of log p(x|z) and ∇_z log p(x|z); needs a :attr:`first`.

        Both are differentiable where it is :attr:`smooth`, and else without a graph.
        """
        assert self.first is not None
        forward: Differentiated
        if self.chain is not None:
            forward = self._pass(z)
        else:
            self.count(z)
            forward = self.first(z)
        value, score = self.terms(forward.value)
        return value, forward.pull_back(score)

    @torch.no_grad()
    def second_order(self, z: Points) -> tuple[Points, Float[Tensor, "*S B d d"]]:
        """∇_z and ∇²_z of −log p(x|z) without a graph; needs a :attr:`chain`."""
        known = self._known_pass(z)
        if known is not None:
            return known
        metric = self._head_metric()
        expansion = self._expansion(z, metric)
        if metric is not None:
            return expansion.slope, expansion.hessian(partial(times_half, metric=metric))
        outputs = expansion.passed.value
        return expansion.slope, expansion.hessian(lambda v: 0.5 * self.terms.curvature(outputs, v))

    @torch.no_grad()
    def rough(
        self, z: Points, dtype: torch.dtype
    ) -> tuple[Points, Float[Tensor, "*S B d d"], Callable[[Points], Points]] | None:
        """∇_z and ∇²_z of −log p(x|z), the latter by a shorter type, and the product v ↦ ∇²_z v.

        None where the exact Hessian is as cheap, or more is asked of it than a quadratic's.
        """
        metric = None if self.chain is None or self.model.shared.holds else self._head_metric()
        if metric is None:
            return None
        expansion = self._expansion(z, metric)
        hessian = expansion.hessian(partial(times_half, metric=metric), dtype)
        product = expansion.product(lambda v: v @ metric)

        def counted(v: Points) -> Points:
            self.count(v)
            return product(v)

        return expansion.slope, hessian, counted

    def _expansion(self, z: Points, metric: Tensor | None) -> Expansion:
        """That of −log p(x|z), below the affine head if its metric is given."""
        forward = self._pass(z, tangents=z.shape[-1])
        _, score = self.terms(forward.value)
        if isinstance(self.terms, PixelQuadratic) and metric is not None:
            score, forward = score @ forward.network.layers[-1].affine.weight, forward.below_head()
        return Expansion.of(forward, -score)

    def _known_pass(self, z: Points) -> tuple[Points, Float[Tensor, "*S B d d"]] | None:
        """:meth:`second_order` from the tangents that a Laplace covariance has needed at z."""
        if not self.model.shared.holds or z.ndim != 3 or len(z) != 1:
            return None
        decoder = Perceptron.of(self.model.decoder)
        if decoder is None:
            return None
        gamma = self.model.likelihood.equal_variance()
        if gamma is None or not isinstance(self.terms, Quadratic):
            return None
        found = self.model.shared.take(decoder, z[0], gamma)
        if found is None:
            return None
        passed, head = found
        self.count(z)
        last = decoder.layers[-1].affine
        if isinstance(self.terms, PixelQuadratic):
            score = self.terms(last(passed[-1].h))[1] @ last.weight
        else:
            score = self.terms(passed[-1].h)[1]
        trunk = Pass(
            Perceptron(decoder.layers[:-1]),
            z[0],
            [hidden.a for hidden in passed],
            [hidden.h for hidden in passed],
            [hidden.images for hidden in passed],
        )
        expansion = Expansion.of(trunk, -score)
        hessian = expansion.hessian(lambda v: 0.5 * head.images)
        return expansion.slope.unsqueeze(0), hessian.unsqueeze(0)

    def gram(self, z: Codes) -> Float[Tensor, "B d d"]:
        """JᵀFJ at z, with J the decoder's Jacobian and F the Fisher weight of its outputs.

        F is Γ⁻¹ of a Gaussian likelihood. All d tangents are computed at once.
        """
        self.count(z, tangents=z.shape[-1])
        if self.chain is None or torch.is_grad_enabled():
            rows = jacobian(self.network, z)
            if isinstance(self.terms, Quadratic):
                return self.terms.metric(rows) @ rows.mT
            return self.terms.fisher(self.network(z), rows) @ rows.mT
        metric, trunk = self._head_metric(), self.chain
        if isinstance(self.terms, PixelQuadratic) and metric is not None:
            trunk = trunk.below_head()
        forward = self._known(z) or trunk(z)
        if metric is None:
            rows = forward.jacobian()
            return self.terms.fisher(forward.value, rows) @ rows.mT
        return symmetric_form(forward.jacobian(short_format(metric)), metric)

    @torch.no_grad()
    def _head_metric(self) -> Float[Tensor, "F F"] | None:
        """WᵀΓ⁻¹W of an affine head with fewer features than data dimensions, computed once.

        With it tangents end below the head. None where there is no such head; where it is left out
        already, what stands for it.
        """
        if isinstance(self.terms, FeatureQuadratic):
            return self.terms.gram
        if self._metric is None and isinstance(self.terms, PixelQuadratic):
            self._metric = wide_head_metric(self.chain, self.terms.gamma)
        return self._metric

    def _pass(self, z: Float[Tensor, "*batch d"], tangents: int = 0) -> Pass:
        assert self.chain is not None
        self.count(z, tangents)
        return self._known(z) or self.chain(z)

    def _known(self, z: Float[Tensor, "*batch d"]) -> Pass | None:
        """The pass where the solve begins, until it is elsewhere."""
        begun = self._begun
        if begun is None or torch.is_grad_enabled():
            return None
        if z.numel() == begun.z.numel() and torch.equal(z.reshape(begun.z.shape), begun.z):
            return begun.reshape(z.shape[:-1])
        self._begun = None
        return None


def data_fit(
    model: VAE,
    x: Observations,
    reference: Codes,
    *,
    codes: int,
    matrices: bool = False,
    linear_head: str = "auto",
) -> DataFit:
    """The cheaper of the two forms for a solve.

    Args:
        model: p(x|z).
        x: the observations.
        reference: codes near which the solve begins.
        codes: those of all evaluations that are to be expected, of all examples together.
        matrices: whether Gauss–Newton matrices or Hessians are to be expected too.
        linear_head: "auto", or "off" to decode to the data at every evaluation.

    Raises:
        InputError: for another choice.
    """
    if linear_head not in LINEAR_HEAD:
        raise unknown_option("linear_head", linear_head, LINEAR_HEAD)
    head = head_of(model) if linear_head == "auto" else None
    if head is not None and head_pays(head, len(x), codes, matrices):
        return DataFit.linear_head(model, x, reference)
    return DataFit.direct(model, x)


def head_of(model: VAE) -> nn.Linear | None:
    """The head of a decoder that is head(trunk(z)) and no more, if it is an ``nn.Linear``.

    None too where log p(x|z) is not quadratic in what it gives.
    """
    if not isinstance(model.likelihood, GaussianLikelihood):
        return None
    parts = trunk_and_head(model.decoder)
    if parts is None or type(parts[1]) is not nn.Linear or not is_plain(parts[1]):
        return None
    return parts[1]


def head_pays(head: nn.Linear, examples: int, codes: int, matrices: bool = False) -> bool:
    """Whether a solve costs less by the head's statistics, counted in multiplications.

    An evaluation by the head is two products of F × D for each code, one by the features a product
    of F × F; the statistics are WᵀW and two products for each example. Of a head that widens, the
    ``matrices`` of a solve need WᵀW anyway.
    """
    features, data = head.in_features, head.out_features
    product = 0 if matrices and data > features else features
    statistics = features * data * (product + 2 * examples)
    return statistics + features * features * codes < 2 * features * data * codes
