"""``torch.compile`` of the inner step: the same numbers, and refused where it cannot be."""

import shutil

import pytest
import torch
from inner_problems import Nonlinear, gradients, nonlinear_inputs, randn

import savi
from savi.errors import InputError
from savi.gradients import BACKENDS, Checkpointed, Implicit, StopGradient, Unrolled
from savi.inner import GradientDescent, InnerObjective, LevenbergMarquardt, Momentum

needs_compiler = pytest.mark.skipif(
    shutil.which("c++") is None and shutil.which("g++") is None, reason="no C++ compiler"
)
EIGHT_STEPS = {"optimizer": GradientDescent(0.2), "max_steps": 8, "rtol": 0.0}


class Anchored(InnerObjective):
    """An objective with tensors of its own, one of them new in every batch."""

    def __init__(self, mixing, linear):
        self.base = Nonlinear(mixing, linear)
        self.evaluations = 0

    def __call__(self, y):
        return self.base(y)

    def evaluated(self, y):
        self.evaluations += len(y)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", [Unrolled(), Implicit(max_stationarity=1e9, max_error=1e9), StopGradient()]
)
def test_compiled_steps_give_the_same(backend):
    for seed in (0, 1, 2):
        mixing, c, init = nonlinear_inputs(seed=seed)
        results = []
        for compiled in (False, True):
            objective = Anchored(mixing, c)
            solution = savi.minimize(
                objective, init, gradient=backend, compile=compiled, **EIGHT_STEPS
            )
            pulled = gradients(solution.value, (mixing, c, init), randn(*init.shape, seed=9))
            results.append([solution.value, solution.objective, *pulled])
            # λ0 and the point after each of 8 steps.
            assert objective.evaluations == (9 * len(init) if compiled else 0)
        torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


@needs_compiler
@pytest.mark.slow
def test_a_second_derivative_of_compiled_steps_is_refused():
    mixing, c, init = nonlinear_inputs()
    solution = savi.minimize(
        Anchored(mixing, c), init, gradient=Unrolled(), compile=True, **EIGHT_STEPS
    )
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(solution.value.sum(), c, create_graph=True)


@needs_compiler
@pytest.mark.slow
def test_what_cannot_be_compiled_is_refused_in_a_sentence():
    def objective(y):
        print("a graph break")
        return y.square().sum(-1) if float(y.sum()) > 0 else y.sum(-1)

    with pytest.raises(InputError, match=r"torch\.compile of the inner steps failed"):
        savi.minimize(
            objective, torch.ones(1, 1), gradient=StopGradient(), compile=True, **EIGHT_STEPS
        )


@pytest.mark.parametrize("name", ["checkpointed", "reversible", "finite_difference"])
def test_backends_that_recompute_refuse_it(name):
    with pytest.raises(InputError, match=f"^{BACKENDS[name].__name__} with compile=True: "):
        savi.minimize(
            lambda y: y.square().sum(-1), torch.ones(1, 1), gradient=BACKENDS[name](),
            compile=True, optimizer=Momentum(),
        )  # fmt: skip


def test_the_fallback_is_not_compiled():
    """It is a run of ``checkpointed``, which would refuse."""
    assert isinstance(Checkpointed(), BACKENDS["checkpointed"])
    mixing, c, init = nonlinear_inputs()
    with torch.inference_mode():
        # Inference mode does without compilation, so that this needs no compiler.
        solution = savi.minimize(
            Nonlinear(mixing, c), init, optimizer=LevenbergMarquardt(), compile=True,
            gradient=Implicit(on_failure="fallback"),
        )  # fmt: skip
    assert (solution.status == savi.Status.CONVERGED).all()
