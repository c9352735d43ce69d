"""Semi-amortized inference: x to λ0 = g_φ(x) to λK, and the outer loss; without Lightning."""

from savi.inference.encoder_losses import ENCODER_LOSSES, EncoderObjective, OuterBatch
from savi.inference.negative_elbo import NegativeELBO
from savi.inference.outer_loss import OuterLoss, OuterStep
from savi.inference.semi_amortized import Inference, SemiAmortizedInference

__all__ = [
    "ENCODER_LOSSES",
    "EncoderObjective",
    "Inference",
    "NegativeELBO",
    "OuterBatch",
    "OuterLoss",
    "OuterStep",
    "SemiAmortizedInference",
]
