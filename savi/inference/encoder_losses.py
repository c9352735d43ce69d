"""What trains the encoder, besides or instead of the gradient through the inner solve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from savi.errors import InputError, unknown_option
from savi.gradients import EncoderGradient
from savi.inference.semi_amortized import Inference, SemiAmortizedInference
from savi.registry import Registry
from savi.vae.distributions import Posterior
from savi.vae.elbo import elbo
from savi.vae.families import PosteriorFamily
from savi.vae.model import VAE, KLWeight


@dataclass(frozen=True)
class OuterBatch:
    """What an encoder loss may look at.

    Attributes:
        model: the generative model.
        family: the posterior family.
        x: the observations.
        inference: λ0 and λK.
        noise: the noise of the outer ELBO.
        beta: the weight of the KL term.
        free_bits: the free bits of the KL term.
    """

    model: VAE
    family: PosteriorFamily
    x: Float[Tensor, "B D"]
    inference: Inference
    noise: Float[Tensor, "S B d"]
    beta: KLWeight = 1.0
    free_bits: float = 0.0

    @property
    def initial(self) -> Posterior:
        """q_λ0, with the encoder's graph."""
        return self.family.distribution(self.inference.init, self.model, self.beta)

    @property
    def final(self) -> Posterior:
        """q_λK, held constant."""
        return self.family.distribution(self.inference.value.detach(), self.model, self.beta)


EncoderLoss = Callable[[OuterBatch], Float[Tensor, ""]]

ENCODER_LOSSES: Registry[EncoderLoss] = Registry("encoder_loss", supplied=1)


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


@ENCODER_LOSSES.register("elbo_at_init")
def elbo_at_init(batch: OuterBatch) -> Float[Tensor, ""]:
    """−L(θ, λ0; x): the encoder of a plain VAE, with θ held constant."""
    bound = elbo(batch.model, batch.initial, batch.x, batch.noise)
    return -bound.objective(batch.beta, batch.free_bits)


@ENCODER_LOSSES.register("objective_at_init")
def objective_at_init(batch: OuterBatch) -> Float[Tensor, ""]:
    """J(λ0), the inner objective at its start, on the noise of the solve.

    For ``map`` this is −log p(x, z0), and −L(θ, λ0; x) for the others, as ``elbo_at_init`` but
    without free bits, and where γ is ``optimal`` with its running mean, as in all inner problems.
    The solve has begun with J and ∇J there, so that it costs nothing; they are constants, so that
    only the first derivative is right.
    """
    start, init = batch.inference.start, batch.inference.init
    # J's numbers, with ∇J as the gradient in λ0.
    slope = (start.gradient * (init - init.detach())).sum(dim=-1)
    return (start.value + slope).mean()


@ENCODER_LOSSES.register("kl_init_final")
def kl_init_final(batch: OuterBatch) -> Float[Tensor, ""]:
    """KL(q_λ0 ‖ q_λK) with λK held constant (the "VAE+SVI+KL" of Kim et al. 2018)."""
    return batch.initial.kl_to(batch.final).mean()


@ENCODER_LOSSES.register("kl_final_init")
def kl_final_init(batch: OuterBatch) -> Float[Tensor, ""]:
    """KL(q_λK ‖ q_λ0) with λK held constant: maximum likelihood of λ0 under refined samples."""
    return batch.final.kl_to(batch.initial).mean()


@ENCODER_LOSSES.register("distill")
def distill(batch: OuterBatch) -> Float[Tensor, ""]:
    """‖λ0 − λK‖² with λK held constant."""
    inference = batch.inference
    return (inference.init - inference.value.detach()).square().sum(dim=-1).mean()


_ADVICE = (
    "set encoder_loss=elbo_at_init (or kl_init_final, distill), inner=proximal (or "
    "trust_region) with gradient=ift, or gradient=unrolled with encoder_loss=through"
)


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
        needs_density = sorted({"kl_init_final", "kl_final_init"} & set(self.terms))
        if needs_density and not inference.family.has_density:
            raise InputError(
                f"encoder_loss '{needs_density[0]}' with posterior '{inference.family.name}', "
                "which has no density: set encoder_loss=distill"
            )
        if "objective_at_init" in self.terms and inference.max_steps == 0:
            raise InputError(
                "encoder_loss 'objective_at_init' with inner.max_steps 0, where no inner objective "
                "is evaluated: set encoder_loss=elbo_at_init, or inner.max_steps to 1 or more"
            )
        if not self._signals(inference):
            raise InputError(
                f"{self._reason(inference)} sends no gradient to the encoder: {_ADVICE}"
            )

    def _signals(self, inference: SemiAmortizedInference) -> set[str]:
        """The losses that do move the encoder: without inner steps, λK = λ0, others vanish."""
        signals = set(self.terms)
        if inference.max_steps == 0:
            signals -= {"kl_init_final", "kl_final_init", "distill"}
        if self.through > 0 and inference.encoder_gradient is not EncoderGradient.ZERO:
            signals.add("through")
        return signals

    def _reason(self, inference: SemiAmortizedInference) -> str:
        named = ", ".join([*(["through"] if self.through else []), *self.terms]) or "none"
        if inference.max_steps == 0:
            return f"encoder_loss '{named}' with inner.max_steps 0, where λK is λ0 itself,"
        return (
            f"encoder_loss '{named}' with gradient '{inference.backend.name}' and inner.objective "
            f"'{inference.objective_name}'"
        )

    def __call__(self, batch: OuterBatch) -> Float[Tensor, ""] | float:
        """Σ_i weight_i loss_i, each a mean over the batch; θ is held constant in all of them."""
        if not self.terms:
            return 0.0
        with frozen(batch.model):
            return sum(weight * ENCODER_LOSSES[name](batch) for name, weight in self.terms.items())
