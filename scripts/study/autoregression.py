"""Autoregression of binary images without a code: a logistic regression for every pixel."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression

#: The strengths of the penalty ½‖w‖²/C among which validation chooses.
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)

#: They are compared on so many pixels, or some more.
COMPARED = 64

Images = Float[np.ndarray, "N D"]


def autoregressive_nll(train: Images, val: Images, test: Images) -> float:
    """−log p(x) = −Σ_j log p(x_j | x_<j) in nats, the mean over test images.

    Each factor is σ(b_j + w_jᵀx_<j): the fully visible sigmoid belief network (Frey 1998), with the
    penalty that is best in validation. A pixel that is the same in all training images has its
    frequency, with one more of each kind counted.
    """

    def total(x: Images, strength: float, pixels: Iterable[int]) -> float:
        return sum(_factor(train, x, j, strength) for j in pixels)

    dim = train.shape[1]
    some = range(dim - 1, -1, -max(1, dim // COMPARED))
    best = min(STRENGTHS, key=lambda strength: total(val, strength, some))
    return total(test, best, range(dim))


def _factor(train: Images, x: Images, j: int, strength: float) -> float:
    """The mean of −log p(x_j | x_<j)."""
    on = train[:, j]
    if j == 0 or on.min() == on.max():
        p = np.full(len(x), (on.sum() + 1.0) / (len(on) + 2.0))
    else:
        model = LogisticRegression(C=strength, max_iter=300).fit(train[:, :j], on)
        p = np.clip(model.predict_proba(x[:, :j])[:, 1], 1e-7, 1.0 - 1e-7)
    return float(-np.where(x[:, j] > 0.5, np.log(p), np.log1p(-p)).mean())
