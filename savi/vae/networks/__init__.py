"""The networks of a VAE: decoders (the mean of p(x|z)) and encoders (the inference network).

All of them map flat vectors to flat vectors, with any number of leading batch dimensions, so that
an inner optimiser need not know whether the data are images. None has batch normalisation or
dropout: the output for an example is a deterministic function of that example alone. (What words an
LSTM drops is drawn before, and belongs to what it is given.)
"""

from savi.vae.networks.activations import ACTIVATIONS, Activation, is_smooth
from savi.vae.networks.base import DECODERS, ENCODERS, Decoder, Encoder
from savi.vae.networks.conditional import ConditionalDecoder
from savi.vae.networks.convolutional import (
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    ResNetDecoder,
    ResNetEncoder,
)
from savi.vae.networks.lstm import LSTMDecoder, LSTMEncoder
from savi.vae.networks.mlp import MLPDecoder, MLPEncoder, ResidualMLPDecoder, ResidualMLPEncoder

__all__ = [
    "ACTIVATIONS",
    "DECODERS",
    "ENCODERS",
    "Activation",
    "ConditionalDecoder",
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "Decoder",
    "Encoder",
    "LSTMDecoder",
    "LSTMEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "ResNetDecoder",
    "ResNetEncoder",
    "ResidualMLPDecoder",
    "ResidualMLPEncoder",
    "is_smooth",
]
