"""A generative model and an inference network from plain config values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from savi.errors import InputError, require_at_least, within
from savi.registry import Registry
from savi.vae.likelihoods import LIKELIHOODS, CategoricalLikelihood, GaussianLikelihood
from savi.vae.model import VAE, GaussianVAE
from savi.vae.networks import DECODERS, ENCODERS
from savi.vae.networks.conditional import (
    ConditionalDecoder,
    LabelledDecoder,
    LabelledEncoder,
)
from savi.vae.networks.probe import probe
from savi.vae.priors import PRIORS, Prior

#: The networks of vectors of any length, to which a class can be appended.
VECTORS = ("mlp", "residual_mlp")


def build_vae(
    model: Mapping[str, Any],
    data_shape: tuple[int, ...],
    data_variance: float,
    levels: int | None = None,
    classes: int | None = None,
) -> VAE:
    """The generative model that the ``model`` group describes.

    Args:
        model: ``latent_dim``, ``decoder``, ``hidden``, ``depth``, ``activation``, ``prior`` and
            ``likelihood`` with their options, and ``gamma`` (``mode``, ``value``, ``floor``) of a
            Gaussian one; a ``value`` of None means the data variance. With ``condition`` "labels"
            the decoder is given the class of an example.
        data_shape: (D,) or (C, H, W).
        data_variance: the training variance, averaged over the dimensions.
        levels: the number of values of an entry, if they are few.
        classes: the number of labels.

    Raises:
        InputError: for unknown names and values out of range.
    """
    latent_dim = model["latent_dim"]
    with within("model"):
        require_at_least("latent_dim", latent_dim, 1)
    with within("model"):
        kind = LIKELIHOODS[model.get("likelihood", "gaussian")]
    given = _classes(model, data_shape, classes)
    sequential = _require_sequences(DECODERS, "decoder", model, data_shape)
    likelihood = kind.of(model, math.prod(data_shape), data_variance)
    shape = likelihood.output_shape(data_shape, levels)
    if len(shape) > 3 and model["decoder"] in ("conv", "resnet"):
        raise InputError(
            f"model.decoder '{model['decoder']}' with model.likelihood '{kind.name}', which has "
            f"{shape[-1]} outputs for every pixel: set model.decoder=mlp"
        )
    decoder = _network(DECODERS, "decoder", model, latent_dim + given, shape)
    _probe(decoder, f"model.decoder '{model['decoder']}'", latent_dim + given, math.prod(shape))
    if given:
        decoder = LabelledDecoder(decoder, math.prod(data_shape), given)
    prior = build_prior(model, math.prod(data_shape))
    if isinstance(likelihood, CategoricalLikelihood):
        likelihood.ordered = not sequential
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
    model: Mapping[str, Any],
    data_shape: tuple[int, ...],
    num_params: int,
    levels: int | None = None,
    classes: int | None = None,
) -> nn.Module:
    """The inference network g_φ: x ↦ λ0 [B, P], of the same size as the decoder unless set."""
    own = {key: model[f"encoder_{key}"] for key in ("hidden", "depth")}
    sizes = {key: value for key, value in own.items() if value is not None}
    shape, given = data_shape, _classes(model, data_shape, classes)
    if _require_sequences(ENCODERS, "encoder", model, data_shape):
        shape = CategoricalLikelihood(len(data_shape)).output_shape(data_shape, levels)
    elif given:
        shape = (math.prod(data_shape) + given,)
    encoder = _network(ENCODERS, "encoder", {**model, **sizes}, shape, num_params)
    owner = f"model.encoder '{model['encoder']}'"
    _probe(encoder, owner, math.prod(shape), num_params, twice=False)
    return LabelledEncoder(encoder, given) if given else encoder


def _classes(model: Mapping[str, Any], data_shape: tuple[int, ...], classes: int | None) -> int:
    """How many classes encoder and decoder are given, 0 for none.

    Raises:
        InputError: for data without labels, and for networks that take no vectors.
    """
    if model.get("condition", "none") == "none":
        return 0
    if classes is None:
        raise InputError(
            "model.condition 'labels' with data that have none: choose data with labels, or set "
            "model.condition=none"
        )
    for kind, registry in (("decoder", DECODERS), ("encoder", ENCODERS)):
        if model[kind] not in ("none", *VECTORS) and _is_of_savi(registry[model[kind]]):
            raise InputError(
                f"model.condition 'labels' with model.{kind} '{model[kind]}', which takes no "
                f"labels: set model.{kind} to one of {', '.join(VECTORS)}, or model.condition=none"
            )
    return classes


def _require_sequences(
    registry: Registry[Any], role: str, model: Mapping[str, Any], data_shape: tuple[int, ...]
) -> bool:
    """Whether a network reads or writes sequences of levels, which the data then have to be.

    Raises:
        InputError: for images, and for the likelihood of other outputs.
    """
    name = model[role]
    if not getattr(registry[name], "sequential", False):
        return False
    if len(data_shape) != 1:
        shape = "×".join(map(str, data_shape))
        raise InputError(
            f"model.{role} '{name}' is for sequences, and the data are images of {shape}: set "
            "data=text or data=lstm_oracle, or model=mlp"
        )
    likelihood = model.get("likelihood", "gaussian")
    kind = LIKELIHOODS[likelihood]
    if kind.support != "levels" or kind.ordinal:
        raise InputError(
            f"model.{role} '{name}' with model.likelihood '{likelihood}': set "
            "model.likelihood=categorical, or model=mlp"
        )
    return True


def _is_of_savi(entry: Any) -> bool:
    return str(entry.__module__).partition(".")[0] == "savi"


def _probe(network: nn.Module, owner: str, inputs: int, outputs: int, twice: bool = True) -> None:
    """Look at a user's own network; those of savi are known to be in order.

    What a conditional decoder is given is not known here.
    """
    if not (_is_of_savi(type(network)) or isinstance(network, ConditionalDecoder)):
        probe(network, owner, inputs, outputs, twice)


def _network(
    registry: Registry[Any], role: str, model: Mapping[str, Any], *shape: Any
) -> nn.Module:
    """The registered network, with what it takes of the ``model`` group."""
    name = model[role]
    takes = registry.options(name)
    with within("model"):
        return registry.build(name, {key: model[key] for key in takes if key in model}, *shape)
