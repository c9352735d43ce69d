"""Time to solve the inner problem of a trained VAE, for every inner optimiser."""

from benchmarks.inner.candidates import Trial, quantile, steps_needed, tuned
from benchmarks.inner.curves import Moment, Watch, curves
from benchmarks.inner.race import Finish, Robustness, across_gamma, race
from benchmarks.inner.run import run_inner
from benchmarks.inner.training import Training, TrainingStep, build_modules, compare_training

__all__ = [
    "Finish",
    "Moment",
    "Robustness",
    "Training",
    "TrainingStep",
    "Trial",
    "Watch",
    "across_gamma",
    "build_modules",
    "compare_training",
    "curves",
    "quantile",
    "race",
    "run_inner",
    "steps_needed",
    "tuned",
]
