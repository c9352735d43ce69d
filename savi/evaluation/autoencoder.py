"""Deterministic autoencoders, to compare a VAE's reconstructions with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from savi.errors import require_at_least
from savi.evaluation.principal import PrincipalComponents
from savi.vae.build import build_encoder, build_vae
from savi.vae.networks import ENCODERS

if TYPE_CHECKING:
    from savi.data import TensorDataModule
    from savi.training.module import SemiAmortizedVAE

#: Apart from the seeds of runs, so that the networks do not begin at the run's own weights.
SEED_OFFSET = 7_919
#: Training examples by which the codes are scaled at the start.
START_EXAMPLES = 1_000


def autoencoder_error(
    module: SemiAmortizedVAE, data: TensorDataModule, split: str = "test", *, epochs: int
) -> float:
    """The mean squared error per dimension of an autoencoder of the run's own architecture.

    x ↦ μ(e(x)) with the run's decoder and encoder (whose d outputs are the code), both freshly
    initialised, minimises ‖x − μ(e(x))‖² on the training split: no noise, no prior. By (8) of Dai,
    Wang and Wipf 2019 (arXiv 1912.10702) the VAE cannot reconstruct better at the same capacity. A
    run without an encoder lends its autoencoder the one that matches its decoder.

    The learning rate, weight decay and batch size are the run's, and the rate decays to 0 (cosine)
    over these epochs, so that the last batches do not decide. Neither the run's model nor the
    global random state is touched, and the answer is the same at every call.

    Raises:
        InputError: if ``epochs`` is below 1.
    """
    require_at_least("epochs", epochs, 1)
    options: dict[str, Any] = dict(module.hparams)
    seed = options["seed"] + SEED_OFFSET
    with torch.random.fork_rng(devices=[]):
        # That of the CPU alone: ``torch.manual_seed`` would touch the GPUs' as well.
        torch.default_generator.manual_seed(seed)
        network = build_autoencoder(options["model"], tuple(options["data_shape"]))
    train = data.split("train").to(module.device)
    network.to(train)
    standardise_codes(network[0], train[:START_EXAMPLES])
    optimizer = {name: options["optimizer"][name] for name in ("lr", "weight_decay")}
    adam = torch.optim.AdamW(network.parameters(), **optimizer, fused=True)
    fit_autoencoder(network, adam, train, data.batch_size, epochs, seed)
    return reconstruction_error(network, data.split(split).to(module.device), data.batch_size)


def build_autoencoder(model: dict[str, Any], data_shape: tuple[int, ...]) -> nn.Sequential:
    """Encoder and decoder of the ``model`` group, with the latent code between them."""
    if model["encoder"] == "none":
        model = {**model, "encoder": model["decoder"] if model["decoder"] in ENCODERS else "mlp"}
    encoder = build_encoder(model, data_shape, model["latent_dim"])
    # Where γ starts has no part in it.
    return nn.Sequential(encoder, build_vae(model, data_shape, data_variance=1.0).decoder)


@torch.no_grad()
def standardise_codes(encoder: nn.Module, x: Float[Tensor, "N D"]) -> None:
    """Scale and shift the last layer so that the codes of these examples have mean 0, variance 1.

    The networks start with small outputs, so that a VAE's posterior starts near the prior, from
    which codes of variance 1 are drawn. Without that noise the codes are next to 0, and the decoder
    of an autoencoder would have to leave the saddle point there before it could learn anything.
    """
    head = getattr(encoder, "head", None)
    if not isinstance(head, nn.Linear):
        return
    codes = encoder(x)
    scale = codes.std(dim=0, correction=0).clamp_min(torch.finfo(codes.dtype).eps)
    head.weight /= scale.unsqueeze(-1)
    head.bias.copy_((head.bias - codes.mean(dim=0)) / scale)


@torch.enable_grad()
def fit_autoencoder(
    network: nn.Module, adam: Optimizer, x: Tensor, batch_size: int, epochs: int, seed: int
) -> None:
    """Minimise the mean squared error on shuffled batches."""
    generator = torch.Generator().manual_seed(seed)
    schedule = CosineAnnealingLR(adam, T_max=epochs * math.ceil(len(x) / batch_size))
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=generator).to(x.device).split(batch_size):
            batch = x[index]
            adam.zero_grad()
            (batch - network(batch)).square().mean().backward()
            adam.step()
            schedule.step()


@torch.no_grad()
def reconstruction_error(network: nn.Module, x: Float[Tensor, "N D"], batch_size: int) -> float:
    """(1/nD) Σ ‖x − network(x)‖²."""
    squares = [(part - network(part)).square().double().sum() for part in x.split(batch_size)]
    return float(torch.stack(squares).sum()) / x.numel()


@torch.no_grad()
def linear_error(train: Float[Tensor, "N D"], x: Float[Tensor, "M D"], latent_dim: int) -> float:
    """The mean squared error per dimension of the best linear autoencoder: principal components.

    It needs no training that could fail, so that it tells a bad minimum from data that no code of
    ``latent_dim`` numbers describes. The components are those of the training examples.
    """
    return PrincipalComponents.fit(train, latent_dim).error(x)
