"""The schema of the config group ``inner``."""

from __future__ import annotations

from dataclasses import dataclass

from savi.settings import positive, setting


@dataclass
class InnerConfig:
    """The inner problem; further keys are options of its optimiser, or of its objective.

    ``rho`` weighs the objective ``proximal``; ``radius`` bounds ``trust_region``, and is None for
    every other objective. ``warm_start`` starts a training example where its last visit ended; it
    is for models without an encoder, and needs an ``atol`` above 0 (or an ``rtol`` of 0), because
    ``rtol`` counts from the gradient at the start. ``last_step`` says whether the last step of a
    training solve is judged as all others are (:data:`savi.inner.loop.LAST_STEP`), and ``adapt_lr``
    begins each solve with the step size that those of training have led to. ``when`` says from
    which training step on solves refine what the encoder says (:mod:`savi.inference.refinement`).
    """

    objective: str = "elbo"
    optimizer: str = "levenberg_marquardt"
    max_steps: int = setting(0, at_least=0)
    test_max_steps: int | None = setting(None, at_least=0)
    rtol: float = setting(1e-3, at_least=0)
    atol: float = setting(0.0, at_least=0)
    rho: float = positive(1.0)
    radius: float | None = None
    noise: str = setting("crn", one_of=("crn", "fresh"))
    samples: int = setting(2, at_least=1)
    linear_head: str = setting("auto", one_of=("auto", "off"))
    compile: bool = False
    warm_start: bool = False
    last_step: str = setting("judged", one_of=("judged", "trusted"))
    adapt_lr: bool = False
    when: str = "always"
