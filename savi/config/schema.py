"""The typed schema of a run's config; the YAML files under ``conf/`` hold the values.

Types are checked when Hydra composes a config. Ranges and combinations are checked by
:mod:`savi.experiments.check`. The groups of :data:`OPEN` take the options of the choices in them
too, which the chosen classes declare: see :mod:`savi.experiments.options`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from savi.data.config import DataConfig
from savi.inference.config import InnerConfig


@dataclass
class GammaConfig:
    """The observation variance γ; a ``value`` of None means the data variance."""

    mode: str = "optimal"
    value: float | None = None
    floor: float = 1e-6


@dataclass
class KLConfig:
    """The KL term of the training objective: its weight β, warm-up and free bits (nats)."""

    weight: float = 1.0
    warmup_steps: int = 0
    free_bits: float = 0.0


@dataclass
class ModelConfig:
    """The generative model and the inference network (``encoder: none`` for SVI).

    Further keys are options of the decoder, or of the encoder.
    """

    latent_dim: int = 16
    decoder: str = "mlp"
    encoder: str = "mlp"
    hidden: int = 256
    depth: int = 2
    activation: str = "softplus"
    encoder_hidden: int | None = None
    encoder_depth: int | None = None
    samples: int = 1
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
    kl_init_final: float = 0.0
    kl_final_init: float = 0.0
    distill: float = 0.0


@dataclass
class OptimizerConfig:
    """The outer optimiser, whose options further keys are; a constant or cosine learning rate."""

    name: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"


@dataclass
class EvaluationConfig:
    """How much work the final evaluation does."""

    val_samples: int = 8
    samples: int = 64
    importance_samples: int = 5_000
    gap_examples: int = 128
    gap_steps: int = 100
    ais_examples: int = 16
    ais_chains: int = 16
    ais_steps: int = 500
    autoencoder_steps: int = 2_000


@dataclass
class TrainerConfig:
    """Options of Lightning's Trainer, the number of CPU threads, and of replicas in one process.

    ``replicas`` trains so many runs at once: seeds ``seed``, ``seed`` + 1, …, or, with ``vary``
    (config key -> one value for each replica), runs of the same seed that differ in those keys.
    """

    max_epochs: int = 40
    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    replicas: int = 1
    vary: Any = None  # a null, unlike a mapping, can be set as a whole on the command line
    precision: str = "32-true"
    gradient_clip_val: float | None = None
    check_val_every_n_epoch: int = 1
    log_every_n_steps: int = 50
    limit_train_batches: int | None = None
    limit_val_batches: int | None = None
    enable_progress_bar: bool = True
    deterministic: bool = True
    threads: int | None = None


@dataclass
class LoggerConfig:
    """Logging besides ``metrics.csv``, which every run writes.

    A ``group`` of None is the sweep that a run is a job of; ``tags`` add to those of method and
    seed. ``folder`` holds links to the wandb runs of all runs.
    """

    wandb: bool = True
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
    trains too, which takes a second or two each time.

    The gradient check compares the gradient of a run with a ``gradient_check_reference`` in
    float64, ``ift`` (the exact implicit gradient) or ``unrolled`` (the exact derivative of the
    inner steps), on the first ``gradient_check_examples`` of the validation split.
    """

    early_stopping_patience: int | None = None
    figures: bool = True
    media_every_n_epochs: int | None = None
    gradient_check_every_n_steps: int | None = None
    gradient_check_examples: int = 32
    gradient_check_reference: str = "ift"


@dataclass
class HypergradientConfig:
    """Tuning of a run's own hyperparameters on the validation ELBO; off where ``tune`` is empty.

    ``solver``, ``damping``, ``rtol`` and ``max_steps`` are those of the linear system in all
    weights, ``lr`` is Adam's in the logarithms. A step uses ``examples`` of either split (None: all
    of it) with ``samples`` of the noise. ``weight_decay`` is then an L2 penalty in the loss.
    """

    tune: list[str] = field(default_factory=list)
    solver: str = "cg"
    damping: float = 0.0
    rtol: float = 1e-3
    max_steps: int | None = None
    lr: float = 0.05
    every_n_steps: int = 5
    start_epoch: int = 0
    examples: int | None = 128
    samples: int = 4
    max_stationarity: float = 0.1
    on_failure: str = "warn"


@dataclass
class Config:
    """A whole run.

    ``optimized_metric`` names the figure of ``metrics.json`` by which a sweeper judges a job, and
    ``imports`` the modules whose names a config may use.
    """

    seed: int = 0
    imports: list[str] = field(default_factory=list)
    optimized_metric: str = "val/elbo"
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


#: Groups, or mappings in them, that take keys besides those of their schema.
OPEN = ("data.options", "model", "posterior", "inner", "gradient", "encoder_loss", "optimizer")


@dataclass
class EvaluateConfig:
    """An evaluation of a checkpoint; an option that is None is taken from the run.

    ``ood`` names another data set, or ``arrays`` with an ``ood_path``, whose examples are to be
    told from those of the run. ``imports`` are the modules that the checkpoint needs, by default
    those that it names.
    """

    checkpoint: str = MISSING
    imports: list[str] | None = None
    split: str = "test"
    output: str | None = None
    samples: int | None = None
    importance_samples: int | None = None
    gap_examples: int | None = None
    gap_steps: int | None = None
    ais_examples: int | None = None
    ais_chains: int | None = None
    ais_steps: int | None = None
    autoencoder_steps: int | None = None
    test_max_steps: int | None = None
    data_path: str | None = None
    ood: str | None = None
    ood_path: str | None = None
    ood_examples: int = 500
    device: str = "auto"
    threads: int | None = None
