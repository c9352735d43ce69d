"""Small LSTM models in float64 for tests, with examples of different lengths."""

import torch
from torch import Tensor, nn

from savi.config.schema import with_defaults
from savi.vae import VAE
from savi.vae.build import build_encoder, build_vae

T, L, d = 4, 5, 2
LENGTHS = (4, 2, 3)


def sequences(lengths: tuple[int, ...] = LENGTHS, length: int = T, seed: int = 0) -> Tensor:
    """Rows k/(L − 1) of levels drawn at random, padded at their ends."""
    source = torch.Generator().manual_seed(seed)
    k = torch.full((len(lengths), length), -1)
    for row, size in zip(k, lengths, strict=True):
        row[:size] = torch.randint(0, L, (size,), generator=source)
    return k.double() / (L - 1)


def lstm_vae(length: int = T, levels: int = L, **options: float) -> VAE:
    """With weights so large that everything is nonlinear."""
    torch.manual_seed(0)
    model = build_vae(group(options), (length,), 1.0, levels=levels).double()
    for parameter in model.decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def lstm_encoder(num_params: int, length: int = T, levels: int = L) -> nn.Module:
    torch.manual_seed(1)
    encoder = build_encoder(group({}), (length,), num_params, levels=levels).double()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.4)
    return encoder


def group(options: dict[str, float]) -> dict:
    own = {"decoder": "lstm", "encoder": "lstm", "likelihood": "categorical", "hidden": 3}
    return with_defaults("model", own | {"latent_dim": d, "embedding": None} | options)
