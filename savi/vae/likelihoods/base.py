"""What a likelihood p(x|o) gives, with o the decoder's outputs: one number for each entry of x."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.errors import InputError, within
from savi.registry import Registry
from savi.types import Index, Observations, PerExample, PerSample, Scalar
from savi.vae.quadratic import Outputs, OutputTerms, Values, Vectors

#: The decoder's outputs, the mean of x or whatever else a likelihood makes of them.
Decoded: TypeAlias = Float[Tensor, "*S B D"]

#: What entries of x may be: any number, one in [0, 1], 0 and 1 alone, or k/(L − 1) of L levels.
SUPPORTS = ("real", "unit", "binary", "levels")

LIKELIHOODS: Registry[type[Likelihood]] = Registry("model.likelihood", supplied=1)


class Likelihood(nn.Module, ABC):
    """p(x|z) = Π_i p(x_i|o_i), with o = o_θ(z) the decoder's outputs.

    A likelihood needs its log-density, its mean, its samples and its Fisher weight; score and
    curvature are then those of automatic differentiation. One that is given options takes them as
    arguments after ``dim``.

    Args:
        dim: D, the number of observed dimensions.

    Attributes:
        name: the name in configs.
        support: one of :data:`SUPPORTS`; ``binary`` and ``levels`` have probabilities, the others
            densities.
        smooth: whether the log-density has a second derivative in o that means anything.
        ordinal: whether levels have to be those of a quantity, so that it is not for words.
    """

    name: ClassVar[str]
    support: ClassVar[str] = "real"
    smooth: ClassVar[bool] = True
    ordinal: ClassVar[bool] = False

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @classmethod
    def of(cls, model: Mapping[str, Any], dim: int, data_variance: float) -> Self:
        """The likelihood of a ``model`` group, for D dimensions of that variance.

        Raises:
            InputError: for a setting of γ, and for options that it does not take.
        """
        cls.check(model)
        takes = LIKELIHOODS.options(cls.name)
        options = {key: model[key] for key in takes if key in model}
        with within("model"):
            made: Self = LIKELIHOODS.build(cls.name, options, dim)
        return made

    @classmethod
    def check(cls, model: Mapping[str, Any]) -> None:
        """Refuse settings of the ``model`` group that mean nothing here.

        Raises:
            InputError: for a γ that is set.
        """
        for key, default in {"mode": "optimal", "value": None, "floor": 1e-6}.items():
            if model["gamma"][key] != default:
                shown = "null" if default is None else default
                raise InputError(
                    f"model.gamma.{key} is {model['gamma'][key]}, but model.likelihood "
                    f"'{cls.name}' has no variance γ: set model.gamma.{key}={shown}, or "
                    "model.likelihood=gaussian"
                )

    def output_shape(self, data_shape: tuple[int, ...], levels: int | None) -> tuple[int, ...]:
        """The shape of the decoder's outputs, for data of that shape with so many levels."""
        return data_shape

    @property
    def num_outputs(self) -> int:
        """How many numbers an example is decoded to: D, unless an entry has several."""
        return self.dim

    def observed(self, x: Float[Tensor, "*S B E"]) -> Float[Tensor, "*S B D"]:
        """The D entries of rows that may hold a context behind them."""
        return x if x.shape[-1] == self.dim else x[..., : self.dim]

    @abstractmethod
    def log_density(self, x: Observations, o: Decoded) -> Decoded:
        """The values of log p(x_i|o_i) in nats, one for each entry."""

    @abstractmethod
    def mean(self, o: Decoded) -> Decoded:
        """E[x|o]."""

    @abstractmethod
    def sample(self, o: Decoded, generator: torch.Generator) -> Decoded:
        """An x ~ p(x|o); the noise is drawn on the generator's device."""

    def drawn(self, o: Decoded, generator: torch.Generator | None) -> Decoded:
        """A sample, or without a generator what is to be expected: the mean."""
        return self.mean(o) if generator is None else self.sample(o, generator)

    @abstractmethod
    def fisher(self, o: Decoded) -> Decoded:
        """The Fisher information −E ∂² log p/∂o_i² of each output."""

    def log_prob(self, x: Observations, o: Decoded) -> Float[Tensor, "*S B"]:
        """The values of log p(x|o) in nats."""
        return self.log_density(self.observed(x), o).sum(dim=-1)

    def score(self, x: Observations, o: Decoded) -> Decoded:
        """∂ log p/∂o_i."""

        def total(o: Tensor) -> Tensor:
            return self.log_density(x, o).sum()

        found: Tensor = torch.func.grad(total)(o)
        return found

    def curvature(self, x: Observations, o: Decoded) -> Decoded:
        """−∂² log p/∂o_i²."""

        def total(o: Tensor) -> Tensor:
            return -self.score(x, o).sum()

        found: Tensor = torch.func.grad(total)(o)
        return found

    def curvature_times(self, x: Observations, o: Decoded, v: Vectors) -> Vectors:
        """−∇² log p times n vectors for each example."""
        return v * self.curvature(x, o).unsqueeze(-2)

    def forward(
        self, x: Observations, o: Float[Tensor, "S B D"], outer: bool = False
    ) -> tuple[PerSample, PerSample]:
        """The values of log p(x|z) in nats, and ‖x − E[x|o]‖² without a graph.

        ``outer`` asks for what belongs to the outer ELBO alone, such as a γ of the batch's own.
        """
        squared_error = (self.observed(x) - self.mean(o.detach())).square().sum(dim=-1)
        return self.log_prob(x, o), squared_error.detach()

    def terms(self, x: Observations) -> OutputTerms:
        """The function o ↦ log p(x|o) of a batch."""
        return SeparableTerms(self.observed(x), self)

    def fisher_times(self, o: Decoded, v: Vectors) -> Vectors:
        """The Fisher matrix of the outputs times n vectors for each example."""
        return v * self.fisher(o).unsqueeze(-2)

    def equal_variance(self) -> Float[Tensor, "#D"] | None:
        """The γ for which the Fisher weight is 1/γ whatever o is; None where it depends on o."""
        return None

    def figures(self) -> dict[str, Scalar]:
        """What is logged of its own parameters, by name."""
        return {}

    def deviation(self, x: Observations, o: Float[Tensor, "S B D"]) -> PerSample | None:
        """What :meth:`observe` needs of a batch besides the squared error; most need nothing."""
        return None

    @torch.no_grad()
    def observe(self, squared_error: PerExample, deviation: PerExample | None = None) -> None:
        """Learn from a training batch outside of the gradient; most have nothing to learn."""


class SeparableTerms(OutputTerms):
    """f(o) = Σ_i log p(x_i|o_i), whose ∇²f has no part between entries and depends on o.

    Args:
        x: the observations.
        likelihood: p.
    """

    def __init__(self, x: Observations, likelihood: Likelihood) -> None:
        self.x, self.likelihood = x, likelihood

    def __call__(self, o: Outputs) -> tuple[Values, Outputs]:
        """f(o) and the score."""
        return self.value(o), self.likelihood.score(self.x, o)

    def value(self, o: Outputs) -> Values:
        """f(o)."""
        return self.likelihood.log_prob(self.x, o)

    def curvature(self, o: Outputs, v: Vectors) -> Vectors:
        """Every vector times the curvature at o."""
        return self.likelihood.curvature_times(self.x, o, v)

    def fisher(self, o: Outputs, v: Vectors) -> Vectors:
        """Every vector times the Fisher weight at o."""
        return self.likelihood.fisher_times(o, v)

    def rows(self, index: Index) -> SeparableTerms:
        """With those rows of x."""
        return SeparableTerms(self.x[index], self.likelihood)
