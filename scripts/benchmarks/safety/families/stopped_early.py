"""Too few steps: the gradient has fallen by a factor of 3 to 300 when K runs out."""

from dataclasses import replace

from benchmarks.safety.descent import descend
from benchmarks.safety.energies import NONLINEAR
from benchmarks.safety.problem import FAMILIES, Draw, Problem, alternate, implicit_answer

LEVELS = (0.3, 0.1, 0.05, 0.03, 0.01, 0.003)
REPEATS = 2


@FAMILIES.register("stopped_early")
def stopped_early(seed: int) -> list[Problem]:
    """Energies whose Hessian changes with y; K is the first step at or below each level."""
    problems = []
    for kind, (name, build) in enumerate(NONLINEAR.items()):
        for index, level in enumerate(LEVELS * REPEATS):
            draw = Draw(seed, 2, kind, index, dtype=alternate(index // len(LEVELS)))
            size = 2 + index % 4
            smooth, w = build(draw, size, 2.0), draw.normal(1, size)
            problem = Problem(
                name=f"{name}, stationarity {level}, {draw.dtype}",
                energy=smooth.energy,
                theta=smooth.theta,
                init=smooth.init,
                cotangent=w,
                lr=smooth.safe_step(),
                max_steps=2000,
                rtol=level,
                answer=implicit_answer(smooth.energy, smooth.theta, smooth.init, w),
            )
            steps = descend(problem, problem.theta).steps
            problems.append(replace(problem, max_steps=steps, rtol=1e-6))
    return problems
