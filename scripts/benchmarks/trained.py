"""A VAE trained for a while, and its inner and outer problem on images that it has not seen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from benchmarks.harness import Config, SharedConfig, run_config
from benchmarks.images import Images, read_images
from savi.config import schema
from savi.errors import InputError
from savi.experiments.checkpoint import CONFIG_KEY, load_weights, read_checkpoint
from savi.experiments.run import build
from savi.inference.negative_elbo import NegativeELBO
from savi.inference.outer_loss import OuterStep
from savi.settings import check_settings, setting
from savi.training.module import SemiAmortizedVAE
from savi.types import Codes, Observations, Scalar
from savi.vae.data_fit import data_fit
from savi.vae.families import PointMassFamily
from savi.vae.model import GaussianVAE
from savi.vae.variance import FixedVariance

#: The groups of a run's config that make a module.
GROUPS: dict[str, Callable[[], Any]] = {
    "model": schema.ModelConfig,
    "posterior": schema.PosteriorConfig,
    "inner": schema.InnerConfig,
    "gradient": schema.GradientConfig,
    "encoder_loss": lambda: schema.EncoderLossConfig(through=1.0),
    "optimizer": schema.OptimizerConfig,
    "evaluation": schema.EvaluationConfig,
}
DATA = ("x", "start", "scale", "noise")
NETWORK = ("latent_dim", "hidden", "depth", "activation")


@dataclass
class TrainedConfig(SharedConfig):
    """What the benchmarks on a trained VAE share."""

    #: the name of a data set, on which a VAE is trained for ``train_steps``.
    dataset: str = "fashion_mnist"
    data_path: str | None = None  # a folder of its files, to do without a download
    batch: int = setting(128, at_least=1)  # examples of its validation split
    latent_dim: int = setting(16, at_least=1)
    hidden: int = setting(500, at_least=1)
    depth: int = setting(2, at_least=0)
    activation: str = "softplus"
    train_steps: int = setting(2000, at_least=1)
    #: a file that savi-train wrote, which then says all about the data and the model but
    #: ``data_path``.
    checkpoint: str | None = None


@dataclass(frozen=True)
class TrainedBatch:
    """A trained decoder θ, unseen images, and what the trained encoder makes of them.

    The inner problem is MAP inference, J_b(z) = −log p(x_b|z) + ½‖z‖², started at m. The outer
    loss decodes at z* + s ∘ ε with a fixed ε, so that dz*/dθ carries a signal that the envelope
    theorem does not cancel.
    """

    model: GaussianVAE  # the decoder, with γ fixed at its trained value
    x: Observations  # the images
    start: Codes  # m, the encoder's mean, where the inner solves begin
    scale: Codes  # s, the encoder's standard deviation
    noise: Codes  # ε

    def objective(self, max_steps: int = 0) -> NegativeELBO:
        """J, made anew as in every training step.

        Args:
            max_steps: how many evaluations are to be expected: with enough of them J is evaluated
                below the decoder's affine head (see :func:`savi.vae.data_fit.data_fit`).
        """
        family = PointMassFamily(self.model.latent_dim)
        fit = data_fit(self.model, self.x, self.start, codes=len(self.x) * max_steps)
        return NegativeELBO(self.model, family, fit, lambda step: self.noise.unsqueeze(0))

    def outer(self, z: Codes) -> Scalar:
        """L = (1/B) Σ_b [−log p(x_b | z_b + s_b ∘ ε_b) + ½‖z_b‖²]."""
        sample = torch.addcmul(z, self.scale, self.noise).unsqueeze(0)
        log_likelihood, _ = self.model.likelihood(self.x, self.model.decode(sample))
        return (0.5 * z.square().sum(dim=-1) - log_likelihood[0]).mean()

    @property
    def weights(self) -> list[Tensor]:
        """The decoder's parameters: what the outer loss is differentiated in."""
        return list(self.model.decoder.parameters())

    @property
    def given(self) -> list[Tensor]:
        """Every tensor that is there before the solve."""
        data = (getattr(self, name) for name in DATA)
        return [*self.model.parameters(), *self.model.buffers(), *data]

    def rows(self, n: int) -> TrainedBatch:
        """The first n examples."""
        if not 1 <= n <= len(self.x):
            raise InputError(f"{n} examples of a batch of {len(self.x)}: set batch to {n} or more")
        return replace(self, **{name: getattr(self, name)[:n] for name in DATA})

    def to(self, target: torch.dtype | torch.device) -> TrainedBatch:
        """A copy, the weights too, in another float type or on another device."""
        data = {name: getattr(self, name).to(target) for name in DATA}
        return replace(self, model=copy.deepcopy(self.model).to(target), **data)

    def with_gamma(self, factor: float) -> TrainedBatch:
        """The same with γ multiplied by ``factor``, and decoder weights that are shared."""
        return replace(self, model=_with_fixed_gamma(self.model, factor))


def trained_batch(config: Config) -> TrainedBatch:
    """A VAE trained for a while, or read from a checkpoint, and a batch of its validation split.

    Args:
        config: see :class:`TrainedConfig`, and ``side`` (see :func:`read_images`).

    Raises:
        InputError: for unknown names, values out of range, and data or a checkpoint that cannot
            be read.
    """
    check_settings(TrainedConfig, config)
    if config["checkpoint"] is not None:
        images, module = _from_checkpoint(config)
        x = images.held_out(config["batch"])
    else:
        images = read_images(config["dataset"], config["data_path"], config["side"], config["seed"])
        x = images.held_out(config["batch"])
        module = build_module(config, images)
        train(module, images, config["train_steps"])
    return _batch(module, x, config["seed"])


@torch.no_grad()
def _batch(module: SemiAmortizedVAE, x: Observations, seed: int) -> TrainedBatch:
    q = module.family.distribution(module.inference.start(x), module.vae)
    noise = torch.randn(q.mean.shape, generator=torch.Generator().manual_seed(seed))
    model = _with_fixed_gamma(module.vae, 1.0)
    return TrainedBatch(model, x, q.mean.clone(), q.variance.sqrt(), noise)


def _with_fixed_gamma(model: GaussianVAE, factor: float) -> GaussianVAE:
    """The same decoder with a γ that nothing moves, whatever kind it was."""
    gamma = model.gamma().detach()
    fixed = FixedVariance(model.gamma.dim, 1.0)
    fixed.gamma = factor * gamma
    return GaussianVAE(model.decoder, fixed, model.latent_dim)


def _from_checkpoint(config: Config) -> tuple[Images, SemiAmortizedVAE]:
    if config["side"] is not None:
        raise InputError(
            f"side is {config['side']} with a checkpoint, whose images have the size that it was "
            "trained on: set side to null"
        )
    run = read_checkpoint(config["checkpoint"])[CONFIG_KEY]
    if config["data_path"] is not None:
        run["data"]["path"] = config["data_path"]
    # How many threads there are is the benchmark's own affair.
    run["trainer"]["threads"] = None
    if run["model"]["encoder"] == "none":
        raise InputError(
            f"checkpoint '{config['checkpoint']}' has no encoder, which the inner solves start "
            "from: give one of another experiment, or null"
        )
    with torch.random.fork_rng(devices=[]):
        data, module = build(run)
    load_weights(module, config["checkpoint"])
    return Images(data, None), module.eval()


def build_module(config: Config, images: Images, **groups: Mapping[str, Any]) -> SemiAmortizedVAE:
    """An untrained module; without ``groups`` a plain VAE with a closed-form γ."""
    model = {key: config[key] for key in NETWORK}
    changes = {**groups, "model": model | dict(groups.get("model", {}))}
    values = {name: asdict(make()) | dict(changes.get(name, {})) for name, make in GROUPS.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        variance, seed = images.data.variance, config["seed"]
        return SemiAmortizedVAE(
            data_shape=images.shape, data_variance=variance, seed=seed, **values
        )


def experiment_module(overrides: Sequence[str], images: Images, seed: int) -> SemiAmortizedVAE:
    """The untrained module of a run with these words on its command line.

    It leaves the global source of randomness at a place that the seed and the networks determine.
    """
    values = run_config(overrides)
    torch.manual_seed(seed)
    return SemiAmortizedVAE(
        data_shape=images.shape,
        data_variance=images.data.variance,
        seed=seed,
        **{key: values[key] for key in GROUPS},
    )


def training_step(
    module: SemiAmortizedVAE, optimizer: Optimizer, x: Observations, **options: bool
) -> OuterStep:
    """One step on the module's own outer loss; the options are those of :class:`OuterLoss`."""
    step = module.outer_loss(x, 1.0, **options)
    optimizer.zero_grad()
    step.loss.backward()
    module.vae.gamma.observe(step.bound.squared_error)
    if step.inference.solution is not None:
        module.inference.learn_from(step.inference.solution)
    optimizer.step()
    return step


def train(module: SemiAmortizedVAE, images: Images, steps: int) -> None:
    """So many steps of AdamW on the module's own outer loss; leaves it in evaluation mode."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    module.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(module.seed)
        for x in islice(images.training_batches(), steps):
            training_step(module, optimizer, x)
    optimizer.zero_grad()
    module.eval()
