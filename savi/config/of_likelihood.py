"""How data are prepared for a likelihood, where nothing else is said: ``conf/data`` asks here."""

from __future__ import annotations

#: What ``data.dequantise``, ``data.centre`` and ``data.binarise`` are for a density on all numbers.
REAL: dict[str, bool | str] = {"dequantise": True, "centre": True, "binarise": "none"}

#: What else they are, for the likelihoods of other data.
OTHERS: dict[str, dict[str, bool | str]] = {
    "bernoulli": {"dequantise": False, "centre": False, "binarise": "dynamic"},
    "continuous_bernoulli": {"centre": False},
    "categorical": {"dequantise": False, "centre": False},
    "logistic_mixture": {"dequantise": False, "centre": False},
}


def of_likelihood(likelihood: str, key: str) -> bool | str:
    """The value of a key of the group ``data``; a user's own likelihood gets those of a density.

    >>> of_likelihood("bernoulli", "centre")
    False
    """
    return (REAL | OTHERS.get(likelihood, {}))[key]
