"""A VAE trained for a while, and its inner and outer problem on images that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from torch.optim import Optimizer

from benchmarks.batch import TrainedBatch, with_fixed_gamma
from benchmarks.decoder import DecoderProblem
from benchmarks.harness import Config, SharedConfig, run_config
from benchmarks.images import Images, read_images
from savi.config import schema
from savi.errors import InputError
from savi.experiments.build import build
from savi.experiments.checkpoint import CONFIG_KEY, load_weights, read_checkpoint
from savi.inference.outer_loss import OuterStep
from savi.settings import check_settings, setting
from savi.training.module import SemiAmortizedVAE
from savi.types import Observations
from savi.vae.distributions import common_noise
from savi.vae.families import DiagonalGaussianFamily

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
        if config["side"] is not None:
            raise InputError(
                f"side is {config['side']} with a checkpoint, whose images have the size that it "
                "was trained on: set side to null"
            )
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
    model = with_fixed_gamma(module.vae, 1.0)
    return TrainedBatch(model, x, q.mean.clone(), q.variance.sqrt(), noise)


def trained_problem(config: Config, dtype: torch.dtype) -> DecoderProblem:
    """The ELBO of the codes of a validation batch, from a checkpoint's encoder, γ held fixed.

    Args:
        config: ``checkpoint``, ``data_path``, ``batch``, ``samples`` and ``seed``.
        dtype: the float type.

    Raises:
        InputError: for a checkpoint or data that cannot be read, and another posterior than a
            diagonal Gaussian.
    """
    images, module = _from_checkpoint(config)
    if not isinstance(module.family, DiagonalGaussianFamily):
        raise InputError(
            f"checkpoint '{config['checkpoint']}' has another posterior than a diagonal Gaussian: "
            "give one of savi, savi_ift, savi_unrolled or vae"
        )
    x = images.held_out(config["batch"]).to(dtype)
    model = with_fixed_gamma(module.vae, 1.0).to(dtype)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(config["seed"])
        start = module.to(dtype).inference.start(x).clone()
        noise = common_noise(config["samples"], start[:, : model.latent_dim])(0)
    return DecoderProblem(model, x, noise, start.requires_grad_())


def _from_checkpoint(config: Config) -> tuple[Images, SemiAmortizedVAE]:
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
    # A checkpoint of before there was a choice has no such key.
    if (likelihood := run["model"].get("likelihood", "gaussian")) != "gaussian":
        raise InputError(
            f"checkpoint '{config['checkpoint']}' has likelihood '{likelihood}', and "
            "the benchmarks hold the γ of a Gaussian one: give one with "
            "model.likelihood=gaussian"
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
    # Benchmarks choose the learning rate of every step themselves.
    values = run_config([*overrides, "optimizer.schedule=constant"])
    torch.manual_seed(seed)
    return SemiAmortizedVAE(
        data_shape=images.shape,
        data_variance=images.data.variance,
        data_levels=images.data.levels,
        seed=seed,
        **{key: values[key] for key in GROUPS},
    )


def training_step(
    module: SemiAmortizedVAE,
    optimizer: Optimizer,
    x: Observations,
    beta: float = 1.0,
    **options: bool,
) -> OuterStep:
    """One step on the module's own outer loss at β; the options are those of :class:`OuterLoss`."""
    step = module.outer_loss(x, beta, **options)
    optimizer.zero_grad()
    step.loss.backward()
    module.vae.likelihood.observe(step.bound.squared_error, step.bound.deviation)
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
