"""Sequences of a random LSTM with two latent codes: the synthetic data of Kim et al. (2018)."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from savi.data.randomness import generator
from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS
from savi.errors import InputError

#: The dimension of z.
LATENT = 2


@DATASETS.register("lstm_oracle")
def lstm_oracle(
    *,
    n: int = 6_000,
    length: int = 5,
    levels: int = 1_000,
    hidden: int = 100,
    code_scale: float = 5.0,
    seed: int = 0,
) -> RawData:
    """Draw z ~ N(0, I_2), then word after word from softmax(W h_t + V z), h_t an LSTM's state.

    All weights are U(−1, 1), but V, which is U(−s, s) with s = ``code_scale`` (arXiv 1802.02550,
    section 4.1). The LSTM begins at 0 with a word of its own, the last row of ``words``. ``truth``
    holds the weights in float64, by which :func:`log_likelihood` knows log p(x|z).

    Args:
        n: Examples in all splits together.
        length: The words of an example.
        levels: The number of words that there are.
        hidden: The units of the LSTM, and the size of a word's vector.
        code_scale: s.
        seed: The seed of weights and examples, apart from that of their split.

    Raises:
        InputError: for a size or scale that is not above 0.
    """
    sizes = {"n": n, "length": length, "levels": levels, "hidden": hidden}
    least = {"levels": 2}
    for option, value in sizes.items():
        if not isinstance(value, int) or value < least.get(option, 1):
            raise InputError(
                f"data.options.{option} is {value}: set a whole number, {least.get(option, 1)} or "
                "more"
            )
    if not code_scale > 0:
        raise InputError(f"data.options.code_scale is {code_scale}: set it above 0")
    source = generator("LSTM oracle", seed)

    def uniform(*size: int, scale: float = 1.0) -> Tensor:
        return scale * (2.0 * torch.rand(*size, generator=source, dtype=torch.float64) - 1.0)

    truth = {
        "words": uniform(levels + 1, hidden),
        "inputs": uniform(4 * hidden, hidden),
        "recurrent": uniform(4 * hidden, hidden),
        "bias": uniform(4 * hidden),
        "head": uniform(levels, hidden),
        "head_bias": uniform(levels),
        "code": uniform(levels, LATENT, scale=code_scale),
    }
    z = torch.randn(n, LATENT, generator=source, dtype=torch.float64)
    values = torch.empty(n, length, dtype=torch.int32)
    word, state = torch.full((n,), levels), _at_rest(n, hidden)
    for t in range(length):
        logits, state = _step(truth, word, z, state)
        u = torch.rand(n, 1, generator=source, dtype=torch.float64)
        word = (logits.softmax(dim=-1).cumsum(dim=-1) < u).sum(dim=-1).clamp_max(levels - 1)
        values[:, t] = word
    return RawData(train=Examples(values), levels=levels, truth=truth, sequences=True)


def log_likelihood(
    truth: Mapping[str, Tensor], words: Int[Tensor, "N T"], z: Float[Tensor, "N d"]
) -> Float[Tensor, " N"]:
    """The values of log p(x|z) of the oracle, in nats."""
    before = torch.full_like(words[:, 0], len(truth["words"]) - 1)
    state = _at_rest(len(words), truth["head"].shape[1])
    total = torch.zeros(len(words), dtype=torch.float64)
    for word in words.long().unbind(dim=1):
        logits, state = _step(truth, before.long(), z, state)
        total += logits.log_softmax(dim=-1).gather(1, word.unsqueeze(1)).squeeze(1)
        before = word
    return total


def evidence(
    truth: Mapping[str, Tensor], words: Int[Tensor, "N T"], points: int = 41
) -> Float[Tensor, " N"]:
    """The values of log p(x) of the oracle, by the trapezoidal rule on |z_i| ≤ 6."""
    edge = torch.linspace(-6.0, 6.0, points, dtype=torch.float64)
    grid = torch.cartesian_prod(edge, edge)
    log_mass = 2.0 * math.log(12.0 / (points - 1)) - math.log(2.0 * math.pi)
    log_prior = log_mass - 0.5 * grid.square().sum(dim=-1)
    return torch.stack(
        [
            (log_likelihood(truth, row.expand(len(grid), -1), grid) + log_prior).logsumexp(dim=0)
            for row in words
        ]
    )


def _at_rest(n: int, hidden: int) -> tuple[Tensor, Tensor]:
    zero = torch.zeros(n, hidden, dtype=torch.float64)
    return zero, zero


def _step(
    truth: Mapping[str, Tensor], word: Tensor, z: Tensor, state: tuple[Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The logits of the next word, and the state, of gates input, forget, output and cell."""
    h, c = state
    gates = truth["words"][word] @ truth["inputs"].T + h @ truth["recurrent"].T + truth["bias"]
    i, f, o, u = gates.chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * u.tanh()
    h = o.sigmoid() * c.tanh()
    return h @ truth["head"].T + truth["head_bias"] + z @ truth["code"].T, (h, c)
