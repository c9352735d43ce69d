"""The schema of the config group ``inner``."""

from dataclasses import dataclass


@dataclass
class InnerConfig:
    """The inner problem; further keys are options of its optimiser, or of its objective.

    ``rho`` weighs the objective ``proximal``; ``radius`` bounds ``trust_region``, and is None for
    every other objective. ``warm_start`` starts a training example where its last visit ended; it
    is for models without an encoder, and needs an ``atol`` above 0 (or an ``rtol`` of 0), because
    ``rtol`` counts from the gradient at the start.
    """

    objective: str = "elbo"
    optimizer: str = "levenberg_marquardt"
    max_steps: int = 0
    test_max_steps: int | None = None
    rtol: float = 1e-3
    atol: float = 0.0
    rho: float = 1.0
    radius: float | None = None
    noise: str = "crn"
    samples: int = 2
    linear_head: str = "auto"
    compile: bool = False
    warm_start: bool = False
