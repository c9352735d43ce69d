"""Figures that no trained model can have: they come of arithmetic that has broken down."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from savi.data.suitability import ORDINARY

#: A model may cost so many times what the simplest one costs. Too short or too bold a training
#: stays far below that, and numbers out of range go far above.
WORSE = 1e2
#: Behind by less than this share it is not said to be worse than the simplest.
BEHIND = 1e-2
#: Rounding in the sums of a bound, relative to them.
ROUNDING = 1e-3
#: The figures that have to be numbers.
FIGURES = ("elbo", "nll", "reconstruction", "kl", "squared_error", "gamma")


def implausible(
    metrics: Mapping[str, float],
    split: str,
    gamma: Float[Tensor, "#D"],
    x: Float[Tensor, "N D"],
    train: Float[Tensor, "M D"],
) -> str | None:
    """What is absurd in the figures of a split, in a sentence; None if nothing is.

    Beyond ``FIGURES`` that are not finite, bounds on log p(x) are held against two bounds of their
    own, at the model's own γ. Above, no density N(x; μ, γ) exceeds Π (2πγ_i)^{−1/2}. Below, the
    simplest model of all, which leaves the code at the prior and answers the mean of the training
    data, has the ELBO

        −½ Σ_i [log 2πγ_i + v_i/γ_i],  v_i the mean square of x_i about that mean.

    Both are exact and cost a pass over the data. A trained model may be worse than the simplest,
    but not by orders of magnitude: what it pays for code and residuals, −ELBO − ½ Σ log 2πγ_i, is
    compared with the D + ½ Σ v_i/γ_i of the simplest, both of which no change of units alters.
    """
    if (fault := not_finite(metrics, split, train)) is not None:
        return fault
    named = {name: metrics[f"{split}/{name}"] for name in ("elbo", "nll")}
    dim = x.shape[1]
    ceiling, simplest = _bounds(gamma, x, train)
    for name, bound in {"elbo": named["elbo"], "nll": -named["nll"]}.items():
        told = f"{split}/{name} is {named[name]:.3g} nats"
        if bound > ceiling + ROUNDING * (abs(ceiling) + dim):
            return (
                f"{told}, but at γ = {float(gamma.mean()):.3g} no log-density exceeds "
                f"{ceiling:.3g}; {_advice(train)}"
            )
        if ceiling - bound > WORSE * (dim + simplest):
            return (
                f"{told}, where a model that ignores its code and answers the mean of the "
                f"training data has an ELBO of {ceiling - simplest:.3g} at the same γ; "
                f"{_advice(train)}"
            )
    return None


def not_finite(
    metrics: Mapping[str, float],
    split: str,
    train: Float[Tensor, "M D"],
    probabilities: bool = False,
) -> str | None:
    """Which of ``FIGURES`` is no number, or no logarithm of a probability where it has to be one.

    Those that a likelihood does not have are not looked for.
    """
    named = {name: metrics[f"{split}/{name}"] for name in FIGURES if f"{split}/{name}" in metrics}
    for name, value in named.items():
        if not math.isfinite(value):
            return f"{split}/{name} is {value}, which is no number; {_advice(train)}"
    for name, bound in {"elbo": named["elbo"], "nll": -named["nll"]}.items():
        if probabilities and bound > ROUNDING * train.shape[1]:
            return (
                f"{split}/{name} is {named[name]:.3g} nats, but no probability exceeds 1; "
                f"{_advice(train)}"
            )
    return None


@contextmanager
def factorised(train: Callable[[], Float[Tensor, "M D"]]) -> Iterator[None]:
    """Explain a matrix in an evaluation that has no factors.

    Args:
        train: gives the training data.

    Raises:
        FloatingPointError: in place of the linear algebra's own error.
    """
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise FloatingPointError(
            "the figures of this run cannot be computed, because a matrix became singular or "
            f"non-finite: {_advice(train())}"
        ) from error


def worse_than_the_mean(
    metrics: Mapping[str, float],
    split: str,
    gamma: Float[Tensor, "#D"],
    x: Float[Tensor, "N D"],
    train: Float[Tensor, "M D"],
) -> str | None:
    """That a bound falls behind the simplest model's at the model's γ, in a sentence, if it does.

    A training that was cut short may end there; its figures are right, and worth nothing.
    """
    ceiling, simplest = _bounds(gamma, x, train)
    elbo = metrics[f"{split}/elbo"]
    if ceiling - simplest - elbo <= BEHIND * (x.shape[1] + simplest):
        return None
    return (
        f"{split}/elbo is {elbo:.4g} nats, less than the {ceiling - simplest:.4g} of a model that "
        "ignores its code and answers the mean of the training data at the same γ: train for "
        f"longer (trainer.max_epochs), or {_advice(train)}"
    )


def _bounds(
    gamma: Float[Tensor, "#D"], x: Float[Tensor, "N D"], train: Float[Tensor, "M D"]
) -> tuple[float, float]:
    """The highest log-density there is, and by how much the simplest model's ELBO is below it."""
    gamma = gamma.detach().cpu().double().expand(x.shape[1])
    variances = (x.cpu().double() - train.cpu().double().mean(dim=0)).square().mean(dim=0)
    ceiling = -0.5 * float((2.0 * math.pi * gamma).log().sum())
    return ceiling, 0.5 * float((variances / gamma).sum())


def _advice(train: Float[Tensor, "M D"]) -> str:
    """What to look at, by the scale of the training data."""
    deviation = float(train.cpu().double().var(dim=0, correction=0).mean().sqrt())
    least, most = ORDINARY
    if least <= deviation <= most:
        return "look at optimizer.lr, inner.lr, trainer.gradient_clip_val and data.scale"
    return (
        f"look at the scale of the data, whose standard deviation is {deviation:.3g}: data.scale "
        "set to global or per_feature brings it to 1"
    )
