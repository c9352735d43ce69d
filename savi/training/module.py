"""One LightningModule for every method: amortised, stochastic and semi-amortised inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from savi.config.schema import Config, with_defaults
from savi.data import TensorDataModule
from savi.data.batches import AnyBatch, Batch, as_batch
from savi.data.preprocessing import Preprocessing
from savi.errors import InputError, within
from savi.inference.encoder_losses import EncoderObjective
from savi.inference.outer_loss import OuterLoss, OuterStep, check_objective
from savi.inference.priors import connect
from savi.inference.refinement import Refinement, WhereScarce
from savi.inference.semi_amortized import Inference, SemiAmortizedInference
from savi.settings import check_settings
from savi.training.bad_steps import BAD_STEPS, BadSteps, StepInputs, source_of_noise
from savi.training.finite import all_finite, gradients, in_words, not_finite
from savi.training.hypergradient.hyperparameters import make_tunable
from savi.training.kl_weight import warm_up
from savi.training.outer_optimizers import OUTER_OPTIMIZERS
from savi.training.refining import Refining
from savi.training.schedules import SCHEDULES
from savi.training.solve_totals import SolveTotals
from savi.training.step_metrics import evaluation_metrics, gradient_norms, training_metrics
from savi.training.warm_start import WarmStarts
from savi.types import Observations
from savi.vae.build import build_encoder, build_vae
from savi.vae.distributions import Posterior
from savi.vae.elbo import Bound
from savi.vae.families import POSTERIORS, PosteriorFamily
from savi.vae.model import KLWeight
from savi.vae.monte_carlo import expected_bound


class SemiAmortizedVAE(pl.LightningModule):
    """A VAE whose posterior is g_φ(x) refined by an inner optimiser.

    Every argument is a plain value, so that checkpoints load in safe mode. The names of the
    groups and their keys are those of the Hydra config; ``savi.config.schema`` documents them, and
    has what each key is that a group leaves out. With no groups at all this is a plain VAE.

    Any Lightning ``Trainer`` can train it. A batch is what :class:`savi.data.TensorDataModule`
    yields, or the tensors of a ``TensorDataset``, of which the first are the examples, in the
    model's units.

    The outer loss of a batch is an :class:`OuterLoss`. One ordinary backward trains θ and φ
    together, so that clipping, accumulation and DDP work as in any Lightning module.

    Args:
        data_shape: (D,) or (C, H, W); data are flat [B, D] all the same.
        data_variance: the training variance, where a γ without a value starts.
        data_levels: the number of values that an entry can take; a categorical likelihood asks.
        data_classes: the number of labels, for ``model.condition`` on them.
        model: the generative model, the encoder, and the KL term.
        posterior: the posterior family.
        inner: the inner problem and its optimiser.
        gradient: the gradient backend.
        encoder_loss: the weights of the encoder's training signals.
        optimizer: the outer optimiser.
        evaluation: sample sizes of validation and evaluation.
        hypergradient: which hyperparameters are tuned; none by default.
        seed: the seed of the noise in validation and evaluation.

    Raises:
        InputError: for unknown names, values out of range, and a configuration that would leave
            the encoder without a gradient.
    """

    def __init__(
        self,
        *,
        data_shape: tuple[int, ...],
        data_variance: float = 1.0,
        data_levels: int | None = None,
        data_classes: int | None = None,
        model: Mapping[str, Any] | None = None,
        posterior: Mapping[str, Any] | None = None,
        inner: Mapping[str, Any] | None = None,
        gradient: Mapping[str, Any] | None = None,
        encoder_loss: Mapping[str, float] | None = None,
        optimizer: Mapping[str, Any] | None = None,
        evaluation: Mapping[str, Any] | None = None,
        hypergradient: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # Without any, the encoder learns as that of a plain VAE does.
        encoder_loss = {"through": 1.0} if encoder_loss is None else encoder_loss
        model, posterior = with_defaults("model", model), with_defaults("posterior", posterior)
        inner, gradient = with_defaults("inner", inner), with_defaults("gradient", gradient)
        encoder_loss = with_defaults("encoder_loss", encoder_loss)
        optimizer = with_defaults("optimizer", optimizer)
        evaluation = with_defaults("evaluation", evaluation)
        self.save_hyperparameters(logger=False)
        groups = {"model": model, "optimizer": optimizer, "evaluation": evaluation}
        check_settings(Config, groups)
        about = tuple(data_shape), data_levels, data_classes
        self.labelled = model["condition"] == "labels"
        self.vae = build_vae(model, about[0], data_variance, *about[1:])
        with within("posterior"):
            family = POSTERIORS.chosen(posterior, model["latent_dim"])
        encoder = None
        if model["encoder"] != "none":
            encoder = build_encoder(model, about[0], family.num_params, *about[1:])
        self.inference = SemiAmortizedInference(encoder, family, inner, gradient)
        connect(self.vae.prior, self.inference, model)
        self.encoder_objective = EncoderObjective(encoder_loss, self.inference)
        self.warm_starts = WarmStarts.build(inner, self.inference)
        with within("inner"):
            self.refinement = Refinement.of(inner, self.inference)
        self.kl, self.samples, self.objective = model["kl"], model["samples"], model["objective"]
        check_objective(model, self.inference, bool(hypergradient and hypergradient["tune"]))
        self.settings, self.optimizer_config, self.seed = evaluation, optimizer, seed
        self.kl_weight, self.weight_decay = self.kl["weight"], optimizer["weight_decay"]
        self.tuned: tuple[str, ...] = tuple(hypergradient["tune"]) if hypergradient else ()
        #: What turns data into x, and what is decoded back: that of the run, once it has data.
        self.preprocessing: Preprocessing | None = None
        #: How the inner solves of the training steps went.
        self.solves = SolveTotals()
        #: The training steps that were left out.
        self.bad_steps = BadSteps()
        self._inputs: StepInputs | None = None
        self._step: OuterStep | None = None
        self._error: torch.linalg.LinAlgError | None = None
        self._is_bad = False
        if self.kl_weight == 0 and self.family.name == "laplace":
            raise InputError("model.kl.weight 0 with posterior 'laplace': set it above 0")
        make_tunable(self, self.tuned)

    @property
    def family(self) -> PosteriorFamily:
        """The posterior family."""
        return self.inference.family

    @property
    def beta(self) -> KLWeight:
        """The KL weight at the current step: see :func:`savi.training.kl_weight.warm_up`."""
        return self.kl_weight * warm_up(self.kl, self.global_step)

    @property
    def outer_loss(self) -> OuterLoss:
        """What a training step minimises, as a function of a batch and β."""
        return OuterLoss(
            self.vae,
            self.inference,
            self.encoder_objective,
            self.samples,
            self.kl["free_bits"],
            # Of stationary points the optimiser's own decay knows nothing.
            self.weight_decay if self.tuned else 0.0,
            self.objective,
        )

    def forward(self, x: Observations, generator: torch.Generator | None = None) -> Posterior:
        """q(z|x) for examples [B, D] in the model's units, refined as in a test."""
        steps = self.inference.test_max_steps
        model = self.vae.given(x)
        lam = self.inference(model, x, max_steps=steps, generator=generator).value
        return self.family.distribution(lam, model)

    def predict_step(self, batch: AnyBatch, batch_idx: int) -> dict[str, Tensor]:
        """The parameters of q(z|x) by name, with noise that is the same at every call."""
        q = self(self._batch(batch).x, self.evaluation_noise(batch_idx))
        return {name: field for name, field in vars(q).items() if isinstance(field, Tensor)}

    def _batch(self, batch: AnyBatch) -> Batch:
        """The batch as :class:`savi.data.TensorDataModule` yields it."""
        return as_batch(batch, tuple(self.hparams["data_shape"]), self.labelled)

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        """The outer loss of a batch."""
        batch = self._batch(batch)
        starts = self.warm_starts
        if starts is not None and not len(batch.index):
            raise InputError(
                "inner.warm_start with batches that do not say which examples they hold: train "
                "with savi.data.TensorDataModule, or leave inner.warm_start out"
            )
        init = None if starts is None else starts[batch.index]
        logging, refine = self._is_logging_step(), self.refinement.refines(self.global_step)
        self._inputs = StepInputs(
            *(batch, init, refine, self.global_step, self.current_epoch),
            source_of_noise(batch.x.device),
        )
        noise = self._shared_noise(batch.x, refine)
        try:
            step = self.outer_loss(
                batch.x, self.beta, init=init, measured=logging, refine=refine, **noise
            )
        except torch.linalg.LinAlgError as error:
            self._fail(error)
            # Without a loss Lightning would warn, and ask nobody whether to step.
            return torch.nan * torch.stack([p.sum() for p in self.parameters()]).sum()
        self._step = step
        return step.loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """The backward of a loss; a factorisation that fails in it makes the step a bad one."""
        try:
            super().backward(loss, *args, **kwargs)
        except torch.linalg.LinAlgError as error:
            self._fail(error)

    def _fail(self, error: torch.linalg.LinAlgError) -> None:
        """Take note of a factorisation that has failed.

        Raises:
            LinAlgError: on one of several devices: the others wait for its part of the gradient.
        """
        if self.trainer.world_size > 1:
            raise error
        self._error = error

    def _shared_noise(self, x: Observations, refine: bool) -> dict[str, Any]:
        """On one of several devices, its share of the noise that one device alone would draw.

        All devices have the same random state, and draw for the whole batch.
        """
        devices = self.trainer.world_size
        if devices == 1:
            return {}
        rows = slice(self.trainer.global_rank, None, devices)
        whole = x.new_empty(devices * len(x), self.family.latent_dim)
        noise: dict[str, Any] = {}
        if refine and self.inference.max_steps > 0:
            schedule = self.inference.draw_noise(whole)
            noise["inner_noise"] = lambda step: schedule(step)[:, rows]
        return noise | {"outer_noise": self.outer_loss.draw_noise(whole)[:, rows]}

    def evaluation_noise(self, stream: int) -> torch.Generator:
        """The source of the noise of one batch, or of another stream, the same at every call."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + stream)

    @torch.no_grad()
    def evaluate_batch(
        self, x: Observations, generator: torch.Generator, samples: int
    ) -> tuple[Inference, Bound, Bound]:
        """Infer as in a test and bound log p(x) at λK and at λ0, on the same noise.

        Here the KL term has weight 1, whatever the training used: L is then a bound on log p(x).
        The bound's noise is drawn after the solve, independent of the noise that the solve saw:
        a bound on the solve's own noise would flatter it.
        """
        model = self.vae.given(x)
        inference = self.inference(
            model, x, max_steps=self.inference.test_max_steps, generator=generator
        )
        seed = int(torch.randint(2**62, (), generator=generator))

        def bound_at(lam: Tensor) -> Bound:
            q = self.family.distribution(lam, model)
            return expected_bound(model, q, x, samples, torch.Generator().manual_seed(seed))

        bound = bound_at(inference.value)
        return inference, bound, bound if inference.solution is None else bound_at(inference.init)

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> None:
        """Log the bound on a validation batch, with noise that is the same in every epoch."""
        self._evaluation_step(batch, batch_idx, "val")

    def test_step(self, batch: AnyBatch, batch_idx: int) -> None:
        """As validation; :func:`savi.evaluation.evaluate` reports the full set of figures."""
        self._evaluation_step(batch, batch_idx, "test")

    def _evaluation_step(self, batch: AnyBatch, batch_idx: int, split: str) -> None:
        x = self._batch(batch).x
        inference, bound, initial = self.evaluate_batch(
            x, self.evaluation_noise(batch_idx), self.settings["val_samples"]
        )
        values = evaluation_metrics(split, self.vae, inference, bound, initial)
        elbo = values.pop(f"{split}/elbo")
        self.log_dict(values, batch_size=len(x), sync_dist=True)
        self.log(f"{split}/elbo", elbo, prog_bar=True, batch_size=len(x), sync_dist=True)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Bad steps, warm starts, and what decides when to refine: saved with the training."""
        callbacks: list[pl.Callback] = [self.bad_steps]
        if self.warm_starts is not None:
            callbacks.append(self.warm_starts)
        if isinstance(self.refinement, WhereScarce):
            callbacks.append(Refining(self.refinement))
        return callbacks

    def configure_optimizers(self) -> Any:
        """The outer optimiser, and the schedule of its learning rate."""
        config = dict(self.optimizer_config)
        if self.tuned:
            # An L2 penalty of the loss takes the place of the decay.
            config["weight_decay"] = 0.0
        optimizer, schedule = outer_optimizer(
            config,
            [{"params": list(self.parameters())}],
            lambda: int(self.trainer.estimated_stepping_batches),
        )
        scheduled = {"scheduler": schedule, "interval": "step"}
        return optimizer if schedule is None else ([optimizer], [scheduled])

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the gradient norms of encoder and decoder; take the gradient of a bad step away."""
        if self._is_bad:
            self._is_bad = False
            # An optimiser passes over parameters without one: they, and its own state, stay.
            self.zero_grad(set_to_none=True)
        elif self._is_logging_step():
            self.log_dict(gradient_norms(self.vae, self.inference.encoder))

    def _is_logging_step(self) -> bool:
        """Whether this step's figures reach the loggers: others do not pay for computing them."""
        return (self.global_step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]

    def _log_training(self, bound: Bound, inference: Inference) -> None:
        values = training_metrics(self.vae, bound, inference)
        self.log("train/elbo", values.pop("train/elbo"), prog_bar=True, sync_dist=True)
        self.log_dict(values, sync_dist=True)

    def on_after_backward(self) -> None:
        """Do what must wait for the backward, unless the step is a bad one.

        A closed-form γ, warm starts and the step size of inner solves move only now, because a
        backward that recomputes inner steps must find the model as it was; and the backward has
        filled the certificate of an implicit gradient.
        """
        step, inputs, error = self._step, self._inputs, self._error
        self._step = self._inputs = self._error = None
        if inputs is None:
            return
        if (what := self._what_is_not_finite(step, error)) is not None:
            self._is_bad = True
            data = getattr(self.trainer, "datamodule", None)
            known = data if isinstance(data, TensorDataModule) else None
            self.bad_steps.add(what, inputs, self, known)
        elif step is not None:
            self._learn_from(step, inputs.batch)
        if self.bad_steps.count and self._is_logging_step():
            self.log(BAD_STEPS, float(self.bad_steps.count))

    def _what_is_not_finite(
        self, step: OuterStep | None, error: torch.linalg.LinAlgError | None
    ) -> str | None:
        """What makes the step whose backward has run a bad one, in words; None for a good one."""
        if error is not None or step is None:
            return f"a factorisation has failed ({error})"
        loss = step.loss.detach()
        if all_finite([loss, *gradients(self)]):
            return None
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and scaler.get_scale() > 1 and all_finite([loss]):
            # Too large a scale, which the scaler lowers; it leaves the step out itself.
            return None
        return in_words(float(loss), not_finite(self))

    def _learn_from(self, step: OuterStep, batch: Batch) -> None:
        """Log a good step, count it, and let it move what no gradient moves."""
        logging = self._is_logging_step()
        if logging:
            self._log_training(step.bound, step.inference)
        self.vae.likelihood.observe(step.bound.squared_error, step.bound.deviation)
        if self.warm_starts is not None:
            self.warm_starts[batch.index] = step.inference.value
        solution = step.inference.solution
        if solution is None:
            return
        self.solves.add(solution)
        self.inference.learn_from(solution)
        if solution.certificate is not None and logging:
            self.log_dict(solution.certificate.metrics())

    def on_train_end(self) -> None:
        """Add up what the devices have counted."""
        self.solves.gather()


def outer_optimizer(
    config: Mapping[str, Any], groups: list[dict[str, Any]], steps: Callable[[], int]
) -> tuple[Optimizer, LRScheduler | None]:
    """The registered optimiser, and the schedule of a learning rate that is not constant.

    Args:
        config: the ``optimizer`` group.
        groups: the parameters, with their weight decay and, if it is another, their learning rate.
        steps: tells the length of the training.
    """
    group = {"name": "adam"} | {key: value for key, value in config.items() if key != "schedule"}
    if not group.get("weight_decay"):
        # Not every optimiser has one.
        group.pop("weight_decay", None)
    with within("optimizer"):
        optimizer = OUTER_OPTIMIZERS.chosen(group, groups)
    if config["schedule"] == "constant":
        return optimizer, None
    return optimizer, SCHEDULES[config["schedule"]](optimizer, steps())
