"""Posterior families, one file each."""

from savi.vae.families.base import POSTERIORS, PosteriorFamily
from savi.vae.families.closed_form import ClosedFormFamily, Jacobians
from savi.vae.families.diagonal_gaussian import DiagonalGaussianFamily
from savi.vae.families.flow import FlowFamily
from savi.vae.families.full_gaussian import FullGaussianFamily
from savi.vae.families.laplace import COVARIANCE_GRADIENT, LaplaceFamily
from savi.vae.families.point_mass import PointMassFamily

__all__ = [
    "COVARIANCE_GRADIENT",
    "POSTERIORS",
    "ClosedFormFamily",
    "DiagonalGaussianFamily",
    "FlowFamily",
    "FullGaussianFamily",
    "Jacobians",
    "LaplaceFamily",
    "PointMassFamily",
    "PosteriorFamily",
]
