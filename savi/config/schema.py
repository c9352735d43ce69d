"""The typed schema of a run's config; the YAML files under ``conf/`` hold the values.

Types are checked when Hydra composes a config; the bounds that stand here, and all combinations,
by :mod:`savi.experiments.check`, before any data are read. The groups of :data:`OPEN` take the
options of the choices in them too, which the chosen classes declare: see
:mod:`savi.config.options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import MISSING

from savi.config.data import DataConfig
from savi.config.inner import InnerConfig
from savi.config.lightning import LightningConfig
from savi.settings import flatten, positive, setting


@dataclass
class GammaConfig:
    """The observation variance γ; a ``value`` of None means the data variance."""

    mode: str = "optimal"
    value: float | None = positive(None)
    floor: float = positive(1e-6)


@dataclass
class KLConfig:
    """The KL term of the training objective: its weight β, warm-up and free bits (nats).

    With ``cycle_steps`` the warm-up begins anew after so many steps (Fu et al. 2019).
    """

    weight: float = setting(1.0, at_least=0)
    warmup_steps: int = setting(0, at_least=0)
    cycle_steps: int | None = setting(None, at_least=1)
    free_bits: float = setting(0.0, at_least=0)


#: More layers than any network of perceptrons or convolutions has.
MAX_DEPTH = 1_000


#: What else than x and z encoder and decoder may be given.
CONDITIONS = ("none", "labels")


@dataclass
class ModelConfig:
    """The generative model and the inference network (``encoder: none`` for SVI).

    Further keys are options of the decoder, of the encoder, of the prior, or of the likelihood.
    ``gamma`` is that of a Gaussian likelihood. ``condition`` is what encoder and decoder are given
    besides x and z.
    """

    latent_dim: int = setting(16, at_least=1)
    decoder: str = "mlp"
    encoder: str = "mlp"
    prior: str = "standard"
    likelihood: str = "gaussian"
    condition: str = setting("none", one_of=CONDITIONS)
    hidden: int = setting(256, at_least=1)
    depth: int = setting(2, at_least=0, at_most=MAX_DEPTH)
    activation: str = "softplus"
    encoder_hidden: int | None = setting(None, at_least=1)
    encoder_depth: int | None = setting(None, at_least=0, at_most=MAX_DEPTH)
    objective: str = setting("elbo", one_of=("elbo", "iwae", "dreg"))
    samples: int = setting(1, at_least=1)
    gamma: GammaConfig = field(default_factory=GammaConfig)
    kl: KLConfig = field(default_factory=KLConfig)


@dataclass
class PosteriorConfig:
    """The posterior family; further keys are its options."""

    name: str = "diagonal_gaussian"


@dataclass
class GradientConfig:
    """The gradient backend; further keys are its options."""

    name: str = "unrolled"


@dataclass
class EncoderLossConfig:
    """The weight of each training signal of the encoder, a registered one's by its name."""

    through: float = 0.0
    elbo_at_init: float = 0.0
    objective_at_init: float = 0.0
    kl_init_final: float = 0.0
    kl_final_init: float = 0.0
    distill: float = 0.0


#: How the outer learning rate goes: see :mod:`savi.training.schedules`.
LR_SCHEDULES = ("constant", "cosine", "linear", "exponential", "one_cycle", "inverse_sqrt")

#: Those that are the same however long the training is.
ENDLESS_SCHEDULES = ("constant", "inverse_sqrt")


@dataclass
class OptimizerConfig:
    """The outer optimiser, whose options further keys are, and how its learning rate goes."""

    name: str = "adam"
    lr: float = setting(1e-3, above=0)
    weight_decay: float = setting(0.0, at_least=0)
    schedule: str = setting("constant", one_of=LR_SCHEDULES)


@dataclass
class EvaluationConfig:
    """How much work the final evaluation does."""

    val_samples: int = setting(8, at_least=1)
    samples: int = setting(64, at_least=1)
    importance_samples: int = setting(5_000, at_least=1)
    gap_examples: int = setting(128, at_least=0)
    gap_steps: int = setting(100, at_least=1)
    ais_examples: int = setting(16, at_least=0)
    ais_chains: int = setting(16, at_least=2)
    ais_steps: int = setting(500, at_least=2)
    autoencoder_steps: int = setting(2_000, at_least=0)


@dataclass
class TrainerConfig(LightningConfig):
    """Options of Lightning's Trainer, the number of CPU threads, and of replicas in one process.

    A step whose loss or gradient is not finite is left out; with more than ``max_bad_steps`` of
    them the run stops.

    ``replicas`` trains so many runs at once: seeds ``seed``, ``seed`` + 1, …, or, with ``vary``
    (config key -> one value for each replica), runs of the same seed that differ in those keys.
    """

    max_epochs: int = setting(40, at_least=1)
    accelerator: str = setting("auto", one_of=("auto", "cpu", "gpu", "mps"))
    devices: int = setting(1, at_least=1)
    strategy: str = setting("auto", one_of=("auto", "ddp"))
    replicas: int = setting(1, at_least=1)
    vary: Any = None  # a null, unlike a mapping, can be set as a whole on the command line
    # The inner solves run in float32 under the mixed ones, and support no others.
    precision: str = setting("32-true", one_of=("32-true", "64-true", "bf16-mixed", "16-mixed"))
    gradient_clip_val: float | None = setting(None, above=0)
    max_bad_steps: int = setting(10, at_least=0)
    check_val_every_n_epoch: int = setting(1, at_least=1)
    log_every_n_steps: int = setting(50, at_least=1)
    enable_progress_bar: bool = True
    deterministic: bool = True
    threads: int | None = setting(None, at_least=1)


@dataclass
class LoggerConfig:
    """Logging besides ``metrics.csv``, which every run writes: to any of three, or to all.

    The packages of ``tensorboard`` and ``mlflow`` are installed by whoever uses them.

    A ``name`` of None is method, data and seed, and a ``group`` of None method and data, or the
    sweep that a run is a job of; ``tags`` add to those of method and
    seed. ``folder`` holds links to the wandb runs of all runs.
    """

    wandb: bool = True
    tensorboard: bool = False
    mlflow: bool = False
    project: str = "savi"
    mode: str = "offline"
    name: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    folder: str = "runs/wandb"


@dataclass
class CallbacksConfig:
    """Optional callbacks; those that are None are off.

    ``figures`` draws the run when it ends; ``media_every_n_epochs`` draws the model while it
    trains too, which takes a second or two each time. ``checkpoint_every_n_minutes`` bounds what a
    kill can cost: a run goes on from there, in the middle of an epoch. ``keep_optimizer`` is for
    training a run for longer once it is over, as if it had never stopped.

    ``aggressive_encoder_steps`` bounds the updates of the encoder alone before each training step
    (He et al. 2019), which goes on until the codes' mutual information with the data falls.

    The gradient check compares the gradient of a run with a ``gradient_check_reference`` in
    float64, ``ift`` (the exact implicit gradient) or ``unrolled`` (the exact derivative of the
    inner steps), on the first ``gradient_check_examples`` of the validation split.
    """

    early_stopping_patience: int | None = setting(None, at_least=1)
    aggressive_encoder_steps: int | None = setting(None, at_least=1)
    figures: bool = True
    media_every_n_epochs: int | None = setting(None, at_least=1)
    checkpoint_every_n_minutes: float | None = positive(10.0)
    keep_optimizer: bool = True
    gradient_check_every_n_steps: int | None = setting(None, at_least=1)
    gradient_check_examples: int = setting(32, at_least=1)
    gradient_check_reference: str = setting("ift", one_of=("ift", "unrolled"))


#: The linear solvers that need no Gauss–Newton matrix, which the system in all weights lacks.
WITHOUT_GAUSS_NEWTON = ("cholesky", "ldl", "cg", "gmres", "minres", "neumann", "nystrom")


@dataclass
class HypergradientConfig:
    """Tuning of a run's own hyperparameters on the validation ELBO; off where ``tune`` is empty.

    ``solver``, ``damping``, ``rtol`` and ``max_steps`` are those of the linear system in all
    weights, ``lr`` is Adam's in the logarithms. A step uses ``examples`` of either split (None: all
    of it) with ``samples`` of the noise. ``weight_decay`` is then an L2 penalty in the loss.
    """

    tune: list[str] = field(default_factory=list)
    solver: str = setting("cg", one_of=WITHOUT_GAUSS_NEWTON)
    damping: float = setting(0.0, at_least=0)
    rtol: float = setting(1e-3, above=0)
    max_steps: int | None = setting(None, at_least=1)
    lr: float = setting(0.05, above=0)
    every_n_steps: int = setting(5, at_least=1)
    start_epoch: int = setting(0, at_least=0)
    examples: int | None = setting(128, at_least=1)
    samples: int = setting(4, at_least=1)
    max_stationarity: float = setting(0.1, above=0)
    on_failure: str = setting("warn", one_of=("warn", "skip", "raise"))


#: The largest seed that NumPy takes.
MAX_SEED = 2**32 - 1


@dataclass
class Config:
    """A whole run.

    ``optimized_metric`` names the figure of ``metrics.json`` by which a sweeper judges a job, and
    ``imports`` the modules whose names a config may use. ``resume`` is ``auto`` where a run that
    the run folder holds is to go on, or a checkpoint from which one is to go on in a new folder.
    ``replay`` is the ``bad_step.ckpt`` of a run, whose step is repeated and shown.
    """

    seed: int = setting(0, at_least=0, at_most=MAX_SEED)
    imports: list[str] = field(default_factory=list)
    optimized_metric: str = "val/elbo"
    resume: str | None = None
    replay: str | None = None
    experiment: Any = None
    data: DataConfig = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    posterior: PosteriorConfig = field(default_factory=PosteriorConfig)
    inner: InnerConfig = field(default_factory=InnerConfig)
    gradient: GradientConfig = field(default_factory=GradientConfig)
    encoder_loss: EncoderLossConfig = field(default_factory=EncoderLossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    hypergradient: HypergradientConfig = field(default_factory=HypergradientConfig)


def defaults() -> dict[str, Any]:
    """What each key is where nothing sets it, by its dotted name.

    A config that an earlier version has left may lack keys, and meant these.
    """
    return flatten(asdict(Config(data=DataConfig())))


def with_defaults(group: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A group of the config with the defaults of all keys that it leaves out, at any depth."""
    return filled(given or {}, asdict(Config(data=DataConfig()))[group])


def filled(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values, and at any depth the defaults of the keys that they leave out."""
    inner = {
        key: filled(value, defaults[key])
        for key, value in values.items()
        if isinstance(value, Mapping) and isinstance(defaults.get(key), Mapping)
    }
    return {**defaults, **values, **inner}


#: Groups, or mappings in them, that take keys besides those of their schema.
OPEN = ("data.options", "model", "posterior", "inner", "gradient", "encoder_loss", "optimizer")


@dataclass
class EvaluateConfig:
    """An evaluation of a checkpoint; an option that is None is taken from the run.

    Those that :class:`EvaluationConfig` has as well are bounded there.

    ``codes`` is an ``.npz`` file for a sample of the posterior of every example, the data of a
    second VAE. ``ood`` names another data set, or ``arrays`` with an ``ood_path``, whose examples
    are to be told from those of the run. ``imports`` are the modules that the checkpoint needs, by
    default those that it names.
    """

    checkpoint: str = MISSING
    imports: list[str] | None = None
    split: str = setting("test", one_of=("test", "val"))
    output: str | None = None
    codes: str | None = None
    samples: int | None = None
    importance_samples: int | None = None
    gap_examples: int | None = None
    gap_steps: int | None = None
    ais_examples: int | None = None
    ais_chains: int | None = None
    ais_steps: int | None = None
    autoencoder_steps: int | None = None
    test_max_steps: int | None = setting(None, at_least=0)
    data_path: str | None = None
    ood: str | None = None
    ood_path: str | None = None
    ood_examples: int = setting(500, at_least=1)
    device: str = "auto"
    threads: int | None = setting(None, at_least=1)
