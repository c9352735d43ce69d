"""Priors p(z), one file each."""

from savi.vae.priors.base import PRIORS, Prior
from savi.vae.priors.mixture import GaussianMixture, MixturePrior
from savi.vae.priors.standard import StandardPrior
from savi.vae.priors.vamp import VampPrior

__all__ = [
    "PRIORS",
    "GaussianMixture",
    "MixturePrior",
    "Prior",
    "StandardPrior",
    "VampPrior",
]
