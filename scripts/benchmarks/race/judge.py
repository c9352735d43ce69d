"""What a model in training is worth: its log-likelihood on images that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.images import Images
from savi.evaluation import active_units
from savi.evaluation.bounds import ImportanceEstimate, importance_log_likelihood
from savi.evaluation.evaluate import evaluation_mode
from savi.evaluation.proposals import laplace_at_mode
from savi.training.module import SemiAmortizedVAE
from savi.types import Observations

NAN = float("nan")


class Verdict(NamedTuple):
    """Means over the examples, in nats, and of the effective samples; NaN after a divergence."""

    val: float = NAN  # log p(x) of validation images
    test: float = NAN  # and of test images
    val_effective: float = NAN  # effective samples of these estimates
    test_effective: float = NAN
    train_gain: float = NAN  # L(λK) − L(λ0) of training images, by the steps that tests take
    val_gain: float = NAN
    active: float = NAN  # latent units that validation images use


@dataclass(frozen=True)
class Judge:
    """The same images, proposals and noise for every method and at every mark.

    log p(x) is importance-weighted, by samples of the Laplace approximation at a mode near the
    encoder's mean, whatever the posterior family of the method. It draws nothing from the global
    source of randomness, so that a training that is judged more often takes the same course.
    """

    train: Observations
    val: Observations
    test: Observations
    samples: int  # of each importance-weighted estimate
    refined: int  # validation images of which the gain is computed; of all of ``train``

    @classmethod
    def of(cls, images: Images, examples: int, samples: int, refined: int) -> Judge:
        """On the first images of each split."""
        val, test = (images.held_out(examples, split) for split in ("val", "test"))
        return cls(images.held_out(refined, "train"), val, test, samples, refined)

    @torch.no_grad()
    def __call__(self, module: SemiAmortizedVAE) -> Verdict:
        """Judge it as it is, in evaluation mode.

        Raises:
            torch.linalg.LinAlgError: for weights that have no Laplace approximation.
        """
        with evaluation_mode(module):
            val, test = self._estimate(module, self.val), self._estimate(module, self.test)
            train_gain, _ = self._refine(module, self.train)
            val_gain, active = self._refine(module, self.val[: self.refined])
            return Verdict(
                float(val.log_likelihood.double().mean()),
                float(test.log_likelihood.double().mean()),
                float(val.effective_samples.mean()),
                float(test.effective_samples.mean()),
                train_gain,
                val_gain,
                active,
            )

    def _estimate(self, module: SemiAmortizedVAE, x: Tensor) -> ImportanceEstimate:
        start = module.family.mean(module.inference.start(x), module.vae)
        q = laplace_at_mode(module.vae, x, start)
        return importance_log_likelihood(module.vae, q, x, self.samples, module.evaluation_noise(0))

    def _refine(self, module: SemiAmortizedVAE, x: Tensor) -> tuple[float, int]:
        """What the steps of a test gain, and how many units their posteriors use."""
        samples = module.settings["samples"]
        inference, bound, initial = module.evaluate_batch(x, module.evaluation_noise(1), samples)
        means = module.family.mean(inference.value, module.vae)
        return float((bound.elbo - initial.elbo).double().mean()), active_units(means)
