"""The methods that race: what each overrides in a run's config, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from savi.errors import InputError, unknown_option


class Finish(NamedTuple):
    """Words of another method, which goes on with the weights from a part of the budget on."""

    overrides: tuple[str, ...]
    begin: float


class Method(NamedTuple):
    """Words of a run's command line, a learning rate, and what becomes of both."""

    overrides: tuple[str, ...]
    lr: float = 1e-3
    schedule: str = "constant"
    finish: Finish | None = None

    def rate(self, part: float) -> float:
        """The learning rate when this part of the budget is spent."""
        return self.lr * SCHEDULES[self.schedule](part)


#: The factor of the learning rate by the part of the budget that is spent.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda part: 1.0,
    "cosine": lambda part: 0.5 * (1.0 + math.cos(math.pi * min(part, 1.0))),
}

#: Amortised in training; in tests it can be refined, by the steps of ``savi``.
VAE = ("experiment=vae", "inner.optimizer=natural_gradient", "inner.test_max_steps=2",
       "inner.samples=2", "inner.rtol=0")  # fmt: skip
DECAY = (*VAE, "optimizer.weight_decay=0.1")
#: β rises from 0 for so many steps, so that no units are given up (Bowman et al. 2016).
WARMUP, LONG_WARMUP = (f"model.kl.warmup_steps={steps}" for steps in (500, 10000))
#: With correlations between the latents, which the methods with a Laplace posterior have, too.
FULL = (*VAE, "posterior=full_gaussian")
SAVI = ("experiment=savi",)
LAPLACE = ("experiment=laplace_ift", "inner.optimizer=chord", "inner.max_steps=8",
           "inner.rtol=1e-2", "encoder_loss=objective_at_init",
           "posterior.covariance_gradient=stop")  # fmt: skip
LAPLACE_STOP, LAPLACE_IFT = (*LAPLACE, "gradient=stop"), (*LAPLACE, "gradient=ift")
#: Four damped Gauss–Newton steps (Park et al. 2019), and the same without a gradient through them.
VLAE = ("experiment=vlae",)
VLAE_STOP = (*VLAE, "gradient=stop", "encoder_loss=objective_at_init",
             "posterior.covariance_gradient=stop")  # fmt: skip
#: Ten steps, each with one fresh draw, through all of which the gradient flows (Kim et al. 2018).
SA_VAE = ("experiment=savi_unrolled", "inner.samples=1", "inner.noise=fresh")

#: The plain VAE in fair settings: the others are compared with the best of them.
VAES = {
    "vae": Method(VAE),
    "vae_slow": Method(VAE, 3e-4),
    "vae_cosine": Method(VAE, 1e-3, "cosine"),
    "vae_slow_cosine": Method(VAE, 3e-4, "cosine"),
    "vae_warmup": Method((*VAE, WARMUP)),
    "vae_warmup_cosine": Method((*VAE, LONG_WARMUP), 1e-3, "cosine"),
    "vae_decay": Method(DECAY),
    "vae_slow_decay": Method(DECAY, 3e-4),
    "vae_slower_decay": Method(DECAY, 1e-4),
    "vae_full": Method(FULL),
    "vae_decay_cosine": Method(DECAY, 1e-3, "cosine"),
}
#: By the names that ``methods`` takes.
METHODS = {
    **VAES,
    "savi": Method(SAVI),
    "auto": Method((*SAVI, "inner.when=auto")),
    "savi_cosine": Method(SAVI, 1e-3, "cosine"),
    "savi_warmup_cosine": Method((*SAVI, LONG_WARMUP), 1e-3, "cosine"),
    "savi_4": Method((*SAVI, "inner.max_steps=4")),
    "laplace": Method(LAPLACE_STOP),
    "laplace_cosine": Method(LAPLACE_STOP, 1e-3, "cosine"),
    "vae_cosine_laplace": Method(VAE, 1e-3, "cosine", Finish(LAPLACE_STOP, 0.7)),
    "laplace_ift": Method(LAPLACE_IFT),
    "laplace_ift_cosine": Method(LAPLACE_IFT, 1e-3, "cosine"),
    "vlae": Method(VLAE),
    "vlae_1": Method((*VLAE, "inner.max_steps=1")),
    "vlae_stop": Method(VLAE_STOP),
    "sa_vae": Method(SA_VAE),
}


def check_methods(names: Sequence[str]) -> None:
    """Refuse names that are unknown, that come twice, and a race without a plain VAE."""
    for name in names:
        if name not in METHODS:
            raise unknown_option("method", name, METHODS)
        if names.count(name) > 1:
            raise InputError(f"methods has '{name}' twice: leave one out")
    if not set(names) & set(VAES):
        raise InputError(
            f"methods is {list(names)}: add one of {', '.join(VAES)}, which the others are "
            "compared with"
        )
