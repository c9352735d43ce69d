"""Autoregression of binary images without a code: a logistic regression for every pixel."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression

#: The strengths of the penalty ½‖w‖²/C among which validation chooses.
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)

Images = Float[np.ndarray, "N D"]


def autoregressive_nll(train: Images, val: Images, test: Images) -> tuple[float, float]:
    """−log p(x) = −Σ_j log p(x_j | x_<j) in nats, means over validation and test images.

    Each factor is σ(b_j + w_jᵀx_<j), the fully visible sigmoid belief network (Frey 1998), with the
    penalty that is best in validation for its pixel. A pixel that is the same in all training
    images has its frequency, with one more of each kind counted.
    """
    totals = np.zeros(2)
    for j in range(train.shape[1]):
        totals += min((_factor(train, val, test, j, c) for c in STRENGTHS), key=lambda two: two[0])
    return float(totals[0]), float(totals[1])


def _factor(
    train: Images, val: Images, test: Images, j: int, strength: float
) -> tuple[float, float]:
    on = train[:, j]
    if j == 0 or on.min() == on.max():
        p = (on.sum() + 1.0) / (len(on) + 2.0)
        return _nll(val[:, j], np.full(len(val), p)), _nll(test[:, j], np.full(len(test), p))
    model = LogisticRegression(C=strength, max_iter=200).fit(train[:, :j], on)
    of_val, of_test = (model.predict_proba(x[:, :j])[:, 1] for x in (val, test))
    return _nll(val[:, j], of_val), _nll(test[:, j], of_test)


def _nll(on: Float[np.ndarray, " N"], p: Float[np.ndarray, " N"]) -> float:
    p = np.clip(p, 1e-7, 1.0 - 1e-7)
    return float(-(on * np.log(p) + (1.0 - on) * np.log1p(-p)).mean())
