"""Semi-amortized inference: the inference network's guess, refined by the inner problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi._minimize import minimize
from savi.config.inner import InnerConfig
from savi.errors import InputError, within
from savi.gradients import BACKENDS, EncoderGradient, GradientBackend
from savi.inference.negative_elbo import NegativeELBO
from savi.inference.step_size import AdaptedStepSize
from savi.inner.loop import JUDGED
from savi.inner.objective import OBJECTIVES, InnerObjective, Traits, as_objective
from savi.inner.optimizers import OPTIMIZERS, LevenbergMarquardt
from savi.inner.optimizers.base import CurvatureOptimizer
from savi.inner.solution import Point, Solution
from savi.registry import refuse_ambiguous
from savi.settings import check_settings, keys_of
from savi.vae.data_fit import DataFit, data_fit
from savi.vae.distributions import Gaussian, NoiseSchedule, common_noise, fresh_noise
from savi.vae.families import PosteriorFamily
from savi.vae.model import VAE, KLWeight

# An optimiser's options are the keys that are left.
OPTIMIZERS.reserve(keys_of(InnerConfig))

#: The noise of the expectation in the inner objective, for every step of a solve.
NOISE = {"crn": common_noise, "fresh": fresh_noise}

#: What of them an objective may ask for by name; one value per example where replicas differ.
CONSTANTS = ("rho", "radius")


@dataclass(frozen=True)
class Inference:
    """λ0, λK and the inner solve between them (None if no step was asked for)."""

    init: Float[Tensor, "B P"]
    value: Float[Tensor, "B P"]
    solution: Solution | None

    @property
    def start(self) -> Point:
        """λ0 with J and ∇J there, which the solve began with."""
        assert self.solution is not None
        assert self.solution.start is not None
        return self.solution.start


class SemiAmortizedInference(nn.Module):
    """x ↦ λ0 = g_φ(x) ↦ λK, the solution of the inner problem started at λ0.

    Args:
        encoder: g_φ, or None: then λ0 is the prior's λ for every example (SVI).
        family: the posterior family.
        inner: the ``inner`` group as plain values.
        gradient: the ``gradient`` group as plain values.

    Raises:
        InputError: for unknown names, values out of range, and combinations that make no sense.
    """

    prior_params: Tensor

    def __init__(
        self,
        encoder: nn.Module | None,
        family: PosteriorFamily,
        inner: Mapping[str, Any],
        gradient: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.encoder, self.family = encoder, family
        self.objective_name: str = inner["objective"]
        self.noise_name: str = inner["noise"]
        self.max_steps: int = inner["max_steps"]
        test_max_steps = inner["test_max_steps"]
        self.test_max_steps: int = self.max_steps if test_max_steps is None else test_max_steps
        self.rtol, self.atol = inner["rtol"], inner["atol"]
        self.rho: float | Tensor = inner["rho"]
        self.samples: int = inner["samples"]
        # Runs of versions without trust regions can still be evaluated.
        self.radius: float | None = inner.get("radius")
        self.compiled: bool = inner.get("compile", False)
        self.linear_head: str = inner.get("linear_head", "auto")
        self.last_step: str = inner.get("last_step", JUDGED)
        with within("inner"):
            check_settings(InnerConfig, inner)
        objective = OBJECTIVES[self.objective_name]
        self._check_radius()
        self.anchored: bool = getattr(objective, "anchored", False)
        self.constrained: bool = getattr(objective, "constrained", False)
        takes = OBJECTIVES.options(self.objective_name)
        own = {key: inner[key] for key in takes if key in inner}
        taken = {*keys_of(InnerConfig), *takes}
        others = {key: value for key, value in inner.items() if key not in taken}
        choices = (OBJECTIVES, self.objective_name), (OPTIMIZERS, inner["optimizer"])
        extras = {key: value for key, value in own.items() if key not in keys_of(InnerConfig)}
        refuse_ambiguous("inner", extras, *choices)
        with within("inner"):
            self.options = OBJECTIVES.check(self.objective_name, own)
            self.optimizer = OPTIMIZERS.build(inner["optimizer"], others)
        with within("gradient"):
            self.backend = BACKENDS.chosen(gradient)
        self._check()
        self.step_size = AdaptedStepSize.of(inner, self.optimizer)
        self.register_buffer("prior_params", family.prior_params(), persistent=False)

    def _check(self) -> None:
        if self.objective_name == "map" and not self.family.is_map:
            raise InputError(
                f"inner.objective 'map' with posterior '{self.family.name}': MAP inference finds "
                "a point, so set posterior=laplace or posterior=point_mass"
            )
        if self.family.name == "laplace" and self.objective_name != "map" and self.max_steps > 0:
            raise InputError(
                f"posterior 'laplace' with inner.objective '{self.objective_name}': its mean is a "
                "MAP solution, so set inner.objective=map"
            )
        scale_lr = getattr(self.optimizer, "scale_lr", 1.0)
        if scale_lr != 1.0 and not self.family.closed_form:
            raise InputError(
                f"inner.scale_lr {scale_lr:g} with posterior '{self.family.name}', which does not "
                "say which part of λ is its scale: set inner.scale_lr=1, or "
                "posterior=diagonal_gaussian"
            )
        problem = Traits(
            stochastic=self.noise_name == "fresh",
            constrained=self.constrained,
            has_fisher=not self.family.is_map,
        )
        with within("inner"):
            self.optimizer.check(problem)
            self.backend.check(
                self.optimizer,
                problem,
                compiled=self.compiled,
                trusting=self.last_step != JUDGED,
            )
        if self.backend.name == "ift" and self.max_steps == 0:
            raise InputError(
                "gradient 'ift' with inner.max_steps 0: there is no solution to differentiate, so "
                "set inner.max_steps to 1 or more, or gradient=unrolled"
            )

    def _check_radius(self) -> None:
        if self.objective_name != "trust_region":
            if self.radius is not None:
                raise InputError(
                    f"inner.radius is {self.radius} with inner.objective '{self.objective_name}', "
                    "which has no trust region: set inner.radius to null, or "
                    "inner.objective=trust_region"
                )
        elif self.radius is None or not 0.0 < self.radius < float("inf"):
            given = "null" if self.radius is None else self.radius
            raise InputError(
                f"inner.radius is {given} with inner.objective 'trust_region': set it above 0"
            )

    @property
    def encoder_gradient(self) -> EncoderGradient:
        """What of the outer gradient reaches the encoder through the solve."""
        if self.max_steps == 0:
            return EncoderGradient.EXACT
        return self.backend.encoder_gradient_for(anchored=self.anchored, max_steps=self.max_steps)

    def start(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B P"]:
        """λ0."""
        if self.encoder is None:
            return self.prior_params.expand(len(x), -1)
        return self.encoder(x)

    def amortised(self, x: Float[Tensor, "B D"]) -> Gaussian:
        """q_λ0, for a family of Gaussians that does not look at the model."""
        q = self.family.distribution(self.start(x), cast(VAE, None))
        assert isinstance(q, Gaussian)
        return q

    def draw_noise(
        self, like: Float[Tensor, "B d"], generator: torch.Generator | None = None
    ) -> NoiseSchedule:
        """The noise of an inner problem for codes like these."""
        return NOISE[self.noise_name](self.samples, like, generator)

    def problem(
        self,
        model: VAE,
        x: Float[Tensor, "B D"],
        init: Float[Tensor, "B P"],
        *,
        max_steps: int | None = None,
        beta: KLWeight = 1.0,
        generator: torch.Generator | None = None,
        noise: NoiseSchedule | None = None,
    ) -> InnerObjective:
        """The inner objective of a batch, with its noise drawn unless given.

        ``max_steps`` says how many evaluations are to be expected, those of training by default.
        """
        if max_steps is None:
            max_steps = self.max_steps
        if noise is None:
            noise = self.draw_noise(init.new_empty(len(init), self.family.latent_dim), generator)
        codes = len(x) * max_steps * (1 if self.family.is_map else self.samples)
        model = model.given(x)
        fit = self.data_fit(model, x, self.family.mean(init, model), codes)
        bound = NegativeELBO(
            model, self.family, fit, noise, beta=beta, stochastic=self.noise_name == "fresh"
        )
        options = {
            name: self.constant(name, init) if name in CONSTANTS else value
            for name, value in self.options.items()
        }
        made = as_objective(OBJECTIVES[self.objective_name](bound, init, **options))
        if bound.stochastic and not made.stochastic:
            raise InputError(
                f"inner.noise 'fresh' with inner.objective '{self.objective_name}', which is the "
                "same at every step: derive it from savi.inner.AnchoredObjective, or set "
                "inner.noise=crn"
            )
        return made

    def data_fit(
        self,
        model: VAE,
        x: Float[Tensor, "B D"],
        reference: Float[Tensor, "B d"],
        codes: int,
    ) -> DataFit:
        """The values of log p(x|z) for an inner problem; see :func:`savi.vae.data_fit.data_fit`."""
        curvature = isinstance(self.optimizer, CurvatureOptimizer) and self.family.closed_form
        return data_fit(
            model,
            x,
            reference,
            codes=codes,
            matrices=curvature and codes > 0,
            linear_head=self.linear_head,
        )

    def solve_exactly(self, backend: GradientBackend, *, max_steps: int, rtol: float) -> None:
        """From now on solve to a tolerance, in place of the steps of the config."""
        self.backend, self.optimizer, self.step_size = backend, LevenbergMarquardt(), None
        self.max_steps, self.rtol, self.atol = max_steps, rtol, 0.0
        self.last_step, self.compiled = JUDGED, False

    def learn_from(self, solution: Solution) -> None:
        """Let the solve of a training batch, which is over, move what later solves begin with."""
        if self.step_size is not None:
            self.step_size.observe(self.optimizer, solution)

    def constant(self, name: str, init: Float[Tensor, "B P"]) -> float | Float[Tensor, " B"]:
        """ρ or r, by the name of its attribute: a number, or one value per example."""
        return getattr(self, name)

    def forward(
        self,
        model: VAE,
        x: Float[Tensor, "B D"],
        *,
        max_steps: int,
        beta: KLWeight = 1.0,
        through: float = 1.0,
        generator: torch.Generator | None = None,
        noise: NoiseSchedule | None = None,
        init: Float[Tensor, "B P"] | None = None,
        last_step: str = JUDGED,
    ) -> Inference:
        """Infer λ for a batch.

        Args:
            model: the generative model.
            x: the observations.
            max_steps: K; 0 is plain amortised inference.
            beta: the weight of the KL term.
            through: the factor on the gradient that flows through the solve to λ0.
            generator: the source of the inner noise; the global one by default.
            noise: the inner noise itself; drawn by default.
            init: λ0 itself; that of :meth:`start` by default.
            last_step: what becomes of the last step (:data:`savi.inner.loop.LAST_STEP`).
        """
        init = self.start(x) if init is None else init
        # Scales the gradient and leaves the value as it is.
        start = init if through == 1.0 else init.detach() + through * (init - init.detach())
        if max_steps == 0:
            return Inference(init, start, None)
        solution = minimize(
            self.problem(
                model, x, start, max_steps=max_steps, beta=beta, generator=generator, noise=noise
            ),
            start,
            optimizer=self.optimizer if self.step_size is None else self.step_size(self.optimizer),
            gradient=self.backend,
            max_steps=max_steps,
            rtol=self.rtol,
            atol=self.atol,
            compile=self.compiled,
            last_step=last_step,
        )
        return Inference(init, solution.value, solution)
