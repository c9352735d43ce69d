"""A generative model and an inference network from plain config values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from savi.errors import require_at_least, within
from savi.registry import Registry
from savi.vae.likelihoods import LIKELIHOODS, GaussianLikelihood
from savi.vae.model import VAE, GaussianVAE
from savi.vae.networks import DECODERS, ENCODERS
from savi.vae.networks.probe import probe
from savi.vae.priors import PRIORS, Prior


def build_vae(model: Mapping[str, Any], data_shape: tuple[int, ...], data_variance: float) -> VAE:
    """The generative model that the ``model`` group describes.

    Args:
        model: ``latent_dim``, ``decoder``, ``hidden``, ``depth``, ``activation``, ``prior`` and
            ``likelihood`` with their options, and ``gamma`` (``mode``, ``value``, ``floor``) of a
            Gaussian one; a ``value`` of None means the data variance.
        data_shape: (D,) or (C, H, W).
        data_variance: the training variance, averaged over the dimensions.

    Raises:
        InputError: for unknown names and values out of range.
    """
    latent_dim = model["latent_dim"]
    with within("model"):
        require_at_least("latent_dim", latent_dim, 1)
    decoder = _network(DECODERS, "decoder", model, latent_dim, data_shape)
    _probe(decoder, f"model.decoder '{model['decoder']}'", latent_dim, math.prod(data_shape))
    with within("model"):
        kind = LIKELIHOODS[model.get("likelihood", "gaussian")]
    likelihood = kind.of(model, math.prod(data_shape), data_variance)
    prior = build_prior(model, math.prod(data_shape))
    if isinstance(likelihood, GaussianLikelihood):
        return GaussianVAE(decoder, likelihood.gamma, latent_dim, prior)
    return VAE(decoder, likelihood, latent_dim, prior)


def build_prior(model: Mapping[str, Any], data_dim: int) -> Prior:
    """The prior that the ``model`` group names.

    Raises:
        InputError: for an unknown name and for options that it does not take.
    """
    name = model.get("prior", "standard")
    with within("model"):
        takes = PRIORS.options(name)
        options = {key: model[key] for key in takes if key in model}
        made: Prior = PRIORS.build(name, options, model["latent_dim"], data_dim)
    return made


def build_encoder(
    model: Mapping[str, Any], data_shape: tuple[int, ...], num_params: int
) -> nn.Module:
    """The inference network g_φ: x ↦ λ0 [B, P], of the same size as the decoder unless set."""
    own = {key: model[f"encoder_{key}"] for key in ("hidden", "depth")}
    sizes = {key: value for key, value in own.items() if value is not None}
    encoder = _network(ENCODERS, "encoder", {**model, **sizes}, data_shape, num_params)
    owner = f"model.encoder '{model['encoder']}'"
    _probe(encoder, owner, math.prod(data_shape), num_params, twice=False)
    return encoder


def _probe(network: nn.Module, owner: str, inputs: int, outputs: int, twice: bool = True) -> None:
    """Look at a user's own network; those of savi are known to be in order."""
    if type(network).__module__.partition(".")[0] != "savi":
        probe(network, owner, inputs, outputs, twice)


def _network(
    registry: Registry[Any], role: str, model: Mapping[str, Any], *shape: Any
) -> nn.Module:
    """The registered network, with what it takes of the ``model`` group."""
    name = model[role]
    takes = registry.options(name)
    with within("model"):
        return registry.build(name, {key: model[key] for key in takes if key in model}, *shape)
