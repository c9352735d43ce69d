"""What about a data set does not go with a model of it, in a sentence each."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from savi.data.module import TensorDataModule
from savi.data.units import FEW_VALUES
from savi.errors import InputError

#: Standardised data, and pixels, lie within; weights of the usual size are made for them.
LARGE = 30.0
#: Columns whose standard deviations differ by more are in different units.
MIXED = 100.0
#: Standard deviations within which data need no scaling.
ORDINARY = 1e-2, 1e2
#: The share of a column that is looked at where its outliers are to be seen beside the others.
MIDDLE = 0.9


def few_values(data: TensorDataModule, gamma_is_free: bool) -> str | None:
    """Whether the training data, undisturbed by noise, take a handful of values only.

    Args:
        data: that are about to be trained on.
        gamma_is_free: whether γ moves in training.
    """
    if data.units.noisy:
        return None
    found = torch.tensor([0, 1]) if data.units.binary else data.distinct
    numbers = len(data.split("train")) * data.dim
    # Few numbers cannot take many values, and a constant is another fault.
    if not 2 <= len(found) <= min(FEW_VALUES, numbers // 10):
        return None
    values = "only the values 0 and 1" if found.tolist() == [0, 1] else f"only {len(found)} values"
    free = ", which grows without a bound as γ falls to model.gamma.floor" if gamma_is_free else ""
    return (
        f"the training data of '{data.name}' take {values}: the ELBO is that of a Gaussian density"
        f"{free}, and is not to be compared with that of a Bernoulli or categorical likelihood"
    )


def require_support(
    data: TensorDataModule, likelihood: str, support: str, ordinal: bool = False
) -> None:
    """Refuse data to which a likelihood gives no probability.

    Args:
        data: that are about to be trained on.
        likelihood: its name.
        support: "binary", "unit", "levels" or "real", as its class says.
        ordinal: whether its levels have to be those of a quantity.

    Raises:
        InputError: for the first split with such values.
    """
    data.setup()
    if data.sequences and (support != "levels" or ordinal):
        raise InputError(
            f"model.likelihood '{likelihood}' with data '{data.name}', which are sequences of "
            "levels: set model=lstm, or model.likelihood=categorical"
        )
    if support == "levels" and data.levels is None:
        raise InputError(
            f"model.likelihood '{likelihood}' is for data of levels, and those of '{data.name}' "
            "are real numbers: set model.likelihood=gaussian"
        )
    if support in ("real", "levels") or data.units.binary:
        return
    for split in ("train", "val", "test"):
        x = data.split(split)
        least, most = float(x.min()), float(x.max())
        if support == "unit" and (least < 0.0 or most > 1.0):
            raise InputError(
                f"model.likelihood '{likelihood}' is for numbers in [0, 1], and the {split} data "
                f"of '{data.name}' reach from {least:.3g} to {most:.3g}: bring them into [0, 1], "
                "or set model.likelihood=gaussian"
            )
        if support == "binary" and not bool(((x == 0) | (x == 1)).all()):
            raise InputError(
                f"model.likelihood '{likelihood}' is for ones and zeros, and the {split} data of "
                f"'{data.name}' hold others: set data.binarise=dynamic, or "
                "model.likelihood=gaussian"
            )


def unusual_scale(data: TensorDataModule) -> str | None:
    """What to say before a training on continuous data that the usual weights are not made for."""
    deviation = math.sqrt(data.variance)
    least, most = ORDINARY
    if data.levels is not None or least <= deviation <= most:
        return None
    if deviation > most and (fault := scale_fault(data)) is not None:
        return fault
    return (
        f"the training data of '{data.name}' have a standard deviation of {deviation:.3g}, and the "
        "usual weights are made for about 1: set data.scale=global"
    )


def scale_fault(data: TensorDataModule) -> str | None:
    """How the scale of continuous training data explains that training diverged, if it does."""
    x = data.split("train").double()
    size = x.abs()
    if data.levels is not None or float(size.max()) <= LARGE:
        return None
    row, column = divmod(int(size.argmax()), data.dim)
    spread = x.std(dim=0, correction=0)
    usual = spread[spread > 0].median() if (spread > 0).any() else spread.max()
    reach = f"the training data reach {float(size.max()):.3g} (example {row}, column {column})"
    if data.scale == "none" and (times := _times_the_others(x[:, column], row)) > LARGE:
        return (
            f"{reach}, {times:.3g} times as far out as the column's others: remove or clip this "
            "outlier, or set data.scale=per_feature"
        )
    if data.scale != "per_feature" and float(spread.max()) > MIXED * float(usual):
        return (
            f"{reach} and their columns differ in spread by a factor of "
            f"{float(spread.max() / usual):.3g}: set data.scale=per_feature"
        )
    if data.scale == "none":
        return f"{reach}: set data.scale=global"
    return f"{reach}, after data.scale={data.scale}: remove or clip this outlier"


def _times_the_others(column: Tensor, row: int) -> float:
    """How far out an entry is, in standard deviations of its column by the middle of it."""
    low, centre, high = column.quantile(
        column.new_tensor([0.5 - MIDDLE / 2, 0.5, 0.5 + MIDDLE / 2])
    ).tolist()
    # 1.645 σ on either side hold nine tenths of a normal distribution.
    spread = (high - low) / (2 * 1.645)
    return abs(float(column[row]) - centre) / spread if spread > 0 else 0.0
