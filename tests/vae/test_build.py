"""Models from config values."""

import pytest
import torch

from savi.errors import InputError
from savi.vae.build import build_encoder, build_vae

MODEL = {
    "latent_dim": 3,
    "decoder": "mlp",
    "encoder": "mlp",
    "hidden": 8,
    "depth": 2,
    "activation": "tanh",
    "encoder_hidden": None,
    "encoder_depth": None,
    "gamma": {"mode": "learned", "value": None, "floor": 1e-6},
}


def build(**changes):
    return build_vae(MODEL | changes, (1, 2, 5), 0.7)


def test_a_variance_without_a_value_starts_at_that_of_the_data():
    assert build().gamma().item() == pytest.approx(0.7)
    assert build(gamma=MODEL["gamma"] | {"value": 0.2}).gamma().item() == pytest.approx(0.2)
    per_pixel = build(gamma=MODEL["gamma"] | {"mode": "per_pixel"})
    assert per_pixel.gamma().shape == (10,)


def test_the_decoder_is_as_described():
    model = build(depth=0)
    assert model.latent_dim == 3
    assert model.decode(torch.zeros(2, 4, 3)).shape == (2, 4, 10)
    assert len(list(model.decoder.parameters())) == 2


def test_the_encoder_has_the_size_of_the_decoder_unless_set():
    def widths(**changes):
        encoder = build_encoder(MODEL | changes, (1, 2, 5), 6)
        return [p.shape[0] for p in encoder.parameters() if p.ndim == 2]

    assert widths() == [8, 8, 6]
    assert widths(encoder_hidden=5) == [5, 5, 6]
    assert widths(encoder_depth=0) == [6]
    assert widths(encoder_depth=1, encoder_hidden=4) == [4, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dim": 0}, r"model\.latent_dim is 0"),
        ({"decoder": "transformer"}, "unknown decoder 'transformer'"),
        ({"hidden": 0}, "hidden is 0"),
        ({"activation": "step"}, "step"),
        ({"gamma": {"mode": "free", "value": None, "floor": 1e-6}}, r"model\.gamma\.mode 'free'"),
        ({"gamma": {"mode": "fixed", "value": -1.0, "floor": 1e-6}}, r"model\.gamma\.value"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message: str):
    with pytest.raises(InputError, match=message):
        build(**changes)


def test_an_encoder_that_cannot_be_built_is_refused():
    with pytest.raises(InputError, match="unknown encoder"):
        build_encoder(MODEL | {"encoder": "transformer"}, (10,), 6)
    with pytest.raises(InputError, match="hidden is 0"):
        build_encoder(MODEL | {"encoder_hidden": 0}, (10,), 6)
