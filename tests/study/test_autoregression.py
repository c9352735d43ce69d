"""The autoregression of binary images, against a distribution that is known."""

import numpy as np
from study.autoregression import autoregressive_nll


def chain(source, n):
    """Three pixels: the first is fair, each of the others is that before it in 9 of 10 images."""
    x = np.zeros((n, 4))
    x[:, 0] = source.random(n) < 0.5
    for j in (1, 2):
        x[:, j] = np.where(source.random(n) < 0.9, x[:, j - 1], 1.0 - x[:, j - 1])
    return x  # The fourth is never lit.


def test_it_finds_the_entropy_of_a_chain():
    source = np.random.default_rng(0)
    train, val, test = (chain(source, n) for n in (2_000, 1_000, 4_000))
    found = autoregressive_nll(train, val, test)
    flip = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert abs(found - (np.log(2.0) + 2.0 * flip)) < 0.04
    # Without the pixels before it, each costs log 2.
    assert found < 2.0 * np.log(2.0)
