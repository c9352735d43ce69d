"""Likelihoods p(x|z): what the decoder's outputs mean, one file each."""

from savi.vae.likelihoods.base import LIKELIHOODS, Likelihood
from savi.vae.likelihoods.bernoulli import BernoulliLikelihood
from savi.vae.likelihoods.categorical import CategoricalLikelihood
from savi.vae.likelihoods.continuous_bernoulli import ContinuousBernoulliLikelihood
from savi.vae.likelihoods.gaussian import GaussianLikelihood
from savi.vae.likelihoods.laplace import LaplaceLikelihood
from savi.vae.likelihoods.levels import LevelsLikelihood
from savi.vae.likelihoods.logistic_mixture import LogisticMixtureLikelihood

__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "ContinuousBernoulliLikelihood",
    "GaussianLikelihood",
    "LaplaceLikelihood",
    "LevelsLikelihood",
    "Likelihood",
    "LogisticMixtureLikelihood",
]
