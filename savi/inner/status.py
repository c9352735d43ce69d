"""How an inner solve ended, one value per example."""

from enum import IntEnum


class Status(IntEnum):
    """The outcome of the inner solve of one example; ``advice`` says what to do about it."""

    CONVERGED = 0
    MAX_STEPS = 1
    STALLED = 2
    DIVERGED = 3

    @property
    def advice(self) -> str:
        """One sentence: what this outcome means, and what to change."""
        return _ADVICE[self]


_ADVICE = {
    Status.CONVERGED: "The gradient fell below atol + rtol times its norm at the start.",
    Status.MAX_STEPS: (
        "The steps ran out before the gradient was small enough: raise max_steps, raise rtol, or "
        "use an optimiser with curvature such as levenberg_marquardt."
    ),
    Status.STALLED: (
        "The optimiser could not lower the objective further although the gradient is not small: "
        "the float type limits it (raise rtol, or use float64) or the objective has a kink."
    ),
    Status.DIVERGED: (
        "The objective became non-finite or ended above its start, and the best iterate was "
        "returned: lower the step size, or use levenberg_marquardt, which cannot diverge."
    ),
}
