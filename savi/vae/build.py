"""A generative model and an inference network from plain config values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from savi.errors import require_at_least, within
from savi.vae.model import GaussianVAE
from savi.vae.networks import DECODERS, ENCODERS
from savi.vae.variance import VARIANCES


def build_vae(
    model: Mapping[str, Any], data_shape: tuple[int, ...], data_variance: float
) -> GaussianVAE:
    """The generative model that the ``model`` group describes.

    Args:
        model: ``latent_dim``, ``decoder``, ``hidden``, ``depth``, ``activation`` and ``gamma``
            (``mode``, ``value``, ``floor``); a ``value`` of None means the data variance.
        data_shape: (D,) or (C, H, W).
        data_variance: the training variance, averaged over the dimensions.

    Raises:
        InputError: for unknown names and values out of range.
    """
    latent_dim = model["latent_dim"]
    with within("model"):
        require_at_least("latent_dim", latent_dim, 1)
        decoder = DECODERS[model["decoder"]](
            latent_dim,
            data_shape,
            hidden=model["hidden"],
            depth=model["depth"],
            activation=model["activation"],
        )
    gamma = model["gamma"]
    value = data_variance if gamma["value"] is None else gamma["value"]
    with within("model.gamma"):
        variance = VARIANCES[gamma["mode"]](math.prod(data_shape), value, gamma["floor"])
    return GaussianVAE(decoder, variance, latent_dim)


def build_encoder(
    model: Mapping[str, Any], data_shape: tuple[int, ...], num_params: int
) -> nn.Module:
    """The inference network g_φ: x ↦ λ0 [B, P], of the same size as the decoder unless set."""
    hidden, depth = model["encoder_hidden"], model["encoder_depth"]
    with within("model"):
        return ENCODERS[model["encoder"]](
            data_shape,
            num_params,
            hidden=model["hidden"] if hidden is None else hidden,
            depth=model["depth"] if depth is None else depth,
            activation=model["activation"],
        )
