"""What trains the encoder, besides or instead of the gradient through the inner solve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor, nn

from savi.errors import InputError, unknown_option
from savi.gradients import EncoderGradient
from savi.training.inference import Inference, SemiAmortizedInference
from savi.vae.elbo import elbo
from savi.vae.families import PosteriorFamily
from savi.vae.model import GaussianVAE

#: (model, family, x, inference, outer noise, β) -> one loss per example.
EncoderLoss = Callable[
    [GaussianVAE, PosteriorFamily, Tensor, Inference, Tensor, float], Float[Tensor, " B"]
]


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Treat the module's parameters as constants in whatever is computed inside."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def elbo_at_init(
    model: GaussianVAE,
    family: PosteriorFamily,
    x: Tensor,
    inference: Inference,
    noise: Tensor,
    beta: float,
) -> Float[Tensor, " B"]:
    """−L(θ, λ0; x): the encoder of a plain VAE, with θ held constant."""
    bound = elbo(model, family.distribution(inference.init, model, beta), x, noise)
    return beta * bound.kl - bound.reconstruction


def kl_init_final(
    model: GaussianVAE,
    family: PosteriorFamily,
    x: Tensor,
    inference: Inference,
    noise: Tensor,
    beta: float,
) -> Float[Tensor, " B"]:
    """KL(q_λ0 ‖ q_λK) with λK held constant (the "VAE+SVI+KL" of Kim et al. 2018)."""
    initial = family.distribution(inference.init, model, beta)
    return initial.kl_to(family.distribution(inference.value.detach(), model, beta))


def kl_final_init(
    model: GaussianVAE,
    family: PosteriorFamily,
    x: Tensor,
    inference: Inference,
    noise: Tensor,
    beta: float,
) -> Float[Tensor, " B"]:
    """KL(q_λK ‖ q_λ0) with λK held constant: maximum likelihood of λ0 under refined samples."""
    final = family.distribution(inference.value.detach(), model, beta)
    return final.kl_to(family.distribution(inference.init, model, beta))


def distill(
    model: GaussianVAE,
    family: PosteriorFamily,
    x: Tensor,
    inference: Inference,
    noise: Tensor,
    beta: float,
) -> Float[Tensor, " B"]:
    """‖λ0 − λK‖² with λK held constant."""
    return (inference.init - inference.value.detach()).square().sum(dim=-1)


ENCODER_LOSSES: dict[str, EncoderLoss] = {
    "elbo_at_init": elbo_at_init,
    "kl_init_final": kl_init_final,
    "kl_final_init": kl_final_init,
    "distill": distill,
}


class EncoderObjective:
    """The weighted sum of encoder losses of a run.

    Args:
        weights: a weight for ``through`` and for each of :data:`ENCODER_LOSSES`.
        inference: the inference that the encoder starts.

    Raises:
        InputError: if a weight is negative or unknown, if nothing would train the encoder, or if
            there is no encoder to train.
    """

    def __init__(self, weights: Mapping[str, float], inference: SemiAmortizedInference) -> None:
        known = {"through", *ENCODER_LOSSES}
        for name, weight in weights.items():
            if name not in known:
                raise unknown_option("encoder_loss", name, known)
            if not 0 <= weight < float("inf"):
                raise InputError(f"encoder_loss.{name} is {weight}: set it to 0 or more")
        self.through = weights.get("through", 0.0)
        self.terms = {n: w for n, w in weights.items() if n in ENCODER_LOSSES and w > 0}
        self._check(inference)

    def _check(self, inference: SemiAmortizedInference) -> None:
        if inference.encoder is None:
            if self.through or self.terms:
                raise InputError(
                    "model.encoder 'none' with encoder_loss "
                    f"'{', '.join(['through'] * bool(self.through) + list(self.terms))}': there "
                    "is no encoder to train, so set encoder_loss=none"
                )
            return
        needs_density = {"kl_init_final", "kl_final_init"} & set(self.terms)
        if needs_density and not inference.family.has_density:
            raise InputError(
                f"encoder_loss '{needs_density.pop()}' with posterior '{inference.family.name}', "
                "which has no density: set encoder_loss=distill"
            )
        signals = set(self.terms) if inference.max_steps > 0 else set(self.terms) & {"elbo_at_init"}
        if self.through > 0 and inference.encoder_gradient is not EncoderGradient.ZERO:
            signals.add("through")
        if not signals:
            raise InputError(
                f"gradient '{inference.backend.name}' with inner.objective "
                f"'{inference.objective_name}' sends no gradient to the encoder, and encoder_loss "
                "has no other signal: set encoder_loss=elbo_at_init (or kl_init_final, distill), "
                "inner.objective=proximal with gradient=ift, or gradient=unrolled with "
                "encoder_loss=through"
            )

    def __call__(
        self,
        model: GaussianVAE,
        family: PosteriorFamily,
        x: Float[Tensor, "B D"],
        inference: Inference,
        noise: Float[Tensor, "S B d"],
        beta: float,
    ) -> Float[Tensor, ""] | float:
        """Σ_i weight_i · mean over the batch of loss_i; θ is held constant in all of them."""
        if not self.terms:
            return 0.0
        with frozen(model):
            return sum(
                weight * ENCODER_LOSSES[name](model, family, x, inference, noise, beta).mean()
                for name, weight in self.terms.items()
            )
