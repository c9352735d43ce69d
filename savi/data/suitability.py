"""What about a data set does not go with a Gaussian density, in a sentence each."""

from __future__ import annotations

from savi.data.module import TensorDataModule
from savi.data.units import FEW_VALUES

#: Standardised data, and pixels, lie within; weights of the usual size are made for them.
LARGE = 30.0
#: Columns whose standard deviations differ by more are in different units.
MIXED = 100.0


def few_values(data: TensorDataModule, gamma_is_free: bool) -> str | None:
    """Whether the training data, undisturbed by noise, take a handful of values only.

    Args:
        data: that are about to be trained on.
        gamma_is_free: whether γ moves in training.
    """
    if data.units.noisy:
        return None
    found, numbers = data.distinct, len(data.split("train")) * data.dim
    # Few numbers cannot take many values, and a constant is another fault.
    if not 2 <= len(found) <= min(FEW_VALUES, numbers // 10):
        return None
    values = "only the values 0 and 1" if found.tolist() == [0, 1] else f"only {len(found)} values"
    free = ", which grows without a bound as γ falls to model.gamma.floor" if gamma_is_free else ""
    return (
        f"the training data of '{data.name}' take {values}: the ELBO is that of a Gaussian density"
        f"{free}, and is not to be compared with that of a Bernoulli or categorical likelihood"
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
    if data.scale != "per_feature" and float(spread.max()) > MIXED * float(usual):
        return (
            f"{reach} and their columns differ in spread by a factor of "
            f"{float(spread.max() / usual):.3g}: set data.scale=per_feature"
        )
    if data.scale == "none":
        return f"{reach}: set data.scale=global"
    return f"{reach}, after data.scale={data.scale}: remove or clip this outlier"
