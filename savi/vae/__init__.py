"""The generative model and the inference network."""

from savi.vae.distributions import DiagonalGaussian, FullGaussian, PointMass, Posterior
from savi.vae.elbo import Bound, elbo
from savi.vae.families import POSTERIORS, PosteriorFamily
from savi.vae.likelihoods import (
    LIKELIHOODS,
    BernoulliLikelihood,
    CategoricalLikelihood,
    ContinuousBernoulliLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
    LogisticMixtureLikelihood,
)
from savi.vae.model import VAE, GaussianVAE
from savi.vae.networks import DECODERS, ENCODERS
from savi.vae.priors import PRIORS, Prior
from savi.vae.variance import VARIANCES, ObservationVariance

__all__ = [
    "DECODERS",
    "ENCODERS",
    "LIKELIHOODS",
    "POSTERIORS",
    "PRIORS",
    "VAE",
    "VARIANCES",
    "BernoulliLikelihood",
    "Bound",
    "CategoricalLikelihood",
    "ContinuousBernoulliLikelihood",
    "DiagonalGaussian",
    "FullGaussian",
    "GaussianLikelihood",
    "GaussianVAE",
    "LaplaceLikelihood",
    "Likelihood",
    "LogisticMixtureLikelihood",
    "ObservationVariance",
    "PointMass",
    "Posterior",
    "PosteriorFamily",
    "Prior",
    "elbo",
]
