"""The last step: judged, or taken on trust."""

import pytest
import torch
from inner_problems import Nonlinear, Quadratic, WithFisher, nonlinear_inputs, randn, spd

import savi
from savi.errors import InputError
from savi.gradients import BACKENDS, Implicit, StopGradient
from savi.implicit.reporter import ImplicitGradientWarning
from savi.inner import GradientDescent, LevenbergMarquardt, Momentum, NaturalGradient
from savi.inner.solution import Reason, Status


class Counted(WithFisher):
    """With the number of its evaluations."""

    count = 0

    def __call__(self, y):
        self.count += 1
        return super().__call__(y)


def problem() -> Quadratic:
    return Quadratic(spd(4, 3, ceiling=2.0), randn(4, 3, seed=1))


def solve(objective, last_step: str, *, gradient=None, optimizer=None, **options):
    return savi.minimize(
        objective,
        randn(4, 3, seed=2),
        optimizer=optimizer or GradientDescent(lr=0.3),
        gradient=gradient or StopGradient(),
        last_step=last_step,
        **{"max_steps": 3, "rtol": 0.0, **options},
    )


def test_trust_saves_the_last_evaluation():
    for last_step, evaluations in (("judged", 4), ("measured", 4), ("trusted", 3)):
        objective = Counted(problem())
        solve(objective, last_step)
        assert objective.count == evaluations


def test_the_steps_are_the_same_and_only_measured_ones_have_figures():
    judged, measured, trusted = (
        solve(problem(), name) for name in ("judged", "measured", "trusted")
    )
    for other in (measured, trusted):
        assert torch.equal(other.value, judged.value)
        assert torch.equal(other.steps, judged.steps)
        assert (other.status == Status.MAX_STEPS).all()
    torch.testing.assert_close(measured.objective, judged.objective)
    torch.testing.assert_close(measured.stationarity, judged.stationarity)
    assert trusted.objective.isnan().all()
    assert trusted.stationarity.isnan().all()


def test_a_trial_on_trust_is_not_turned_down():
    # From 0, ten times Newton's step on a sharper parabola: a judge refuses it.
    sharp = WithFisher(Quadratic(40.0 * torch.eye(3).double().repeat(4, 1, 1), randn(4, 3, seed=1)))
    optimizer = NaturalGradient(lr=1.0)
    judged, trusted = (
        solve(sharp, name, optimizer=optimizer, max_steps=1) for name in ("judged", "trusted")
    )
    assert torch.equal(judged.value, randn(4, 3, seed=2))
    assert not torch.equal(trusted.value, judged.value)


def test_examples_that_stopped_before_keep_their_figures():
    hessian = torch.eye(2).double().repeat(2, 1, 1)
    objective = Quadratic(hessian, torch.tensor([[1.0, 1.0], [5.0, 0.0]]).double())
    start = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).double()
    solution = savi.minimize(
        objective, start, optimizer=GradientDescent(lr=0.5), gradient=StopGradient(), max_steps=2,
        last_step="trusted",
    )  # fmt: skip
    assert solution.status.tolist() == [Status.CONVERGED, Status.MAX_STEPS]
    assert solution.stationarity[0] == 0
    assert solution.stationarity[1].isnan()
    assert solution.steps.tolist() == [0, 2]


def test_a_last_step_that_is_not_finite_is_not_taken():
    def log_barrier(y):
        return -(1.0 - y).clamp_min(0.0).log().sum(-1)

    start = torch.tensor([[1.0 - 1e-200]]).double() * 0 + 0.5
    exploding = GradientDescent(lr=1e308)
    solution = savi.minimize(
        lambda y: 1e10 * log_barrier(y), start, optimizer=exploding, gradient=StopGradient(),
        max_steps=1, last_step="trusted",
    )  # fmt: skip
    assert torch.equal(solution.value, start)


class TwoScales(Quadratic):
    """½ c ‖y‖² with another c for each example."""

    def __init__(self, *scales: float) -> None:
        hessian = torch.tensor(scales, dtype=torch.float64)[:, None, None]
        super().__init__(hessian, torch.zeros(len(scales), 1).double())


@pytest.mark.parametrize("last_step", ["measured", "trusted"])
def test_an_example_whose_last_step_is_not_finite_has_diverged_alone(last_step):
    start = torch.tensor([[1.0], [1.0]]).double()
    solution = savi.minimize(
        TwoScales(0.05, 5e307), start, optimizer=GradientDescent(lr=10.0),
        gradient=StopGradient(), max_steps=1, last_step=last_step,
    )  # fmt: skip
    assert solution.status.tolist() == [Status.MAX_STEPS, Status.DIVERGED]
    assert solution.reason[1] == Reason.NOT_FINITE
    assert solution.value.tolist() == [[0.5], [1.0]]
    assert solution.steps.tolist() == [1, 0]
    assert solution.objective[1] == 2.5e307
    assert solution.stationarity[1] == 1.0


def test_ift_calls_no_end_solved_that_is_not_finite():
    def root_of(y):  # Its slope is not a number below 0.
        return 2.0 / 3.0 * y.pow(1.5).sum(-1)

    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    solution = savi.minimize(
        lambda y: weight * root_of(y), torch.ones(2, 1).double(), gradient=Implicit(),
        optimizer=GradientDescent(lr=2.0), max_steps=1, last_step="trusted",
    )  # fmt: skip
    with pytest.warns(ImplicitGradientWarning):
        solution.value.sum().backward()
    assert solution.stationarity.isnan().all()
    assert solution.certificate.failed.all()


def test_an_unrolled_fallback_refuses_trust():
    with pytest.raises(InputError, match="on_failure='fallback' with a last step that is not jud"):
        solve(problem(), "trusted", gradient=Implicit(on_failure="fallback"))


def test_ift_measures_the_stationarity_that_its_certificate_needs():
    mixing, linear, start = nonlinear_inputs(batch=4, size=3)
    found = {}
    for last_step in ("measured", "trusted"):
        solution = savi.minimize(
            Nonlinear(mixing, linear), start, optimizer=LevenbergMarquardt(), gradient=Implicit(),
            max_steps=4, rtol=0.0, last_step=last_step,
        )  # fmt: skip
        (gradient,) = torch.autograd.grad(solution.value.sum(), linear)
        found[last_step] = solution, gradient
    measured, trusted = found.values()
    torch.testing.assert_close(trusted[0].stationarity, measured[0].stationarity)
    torch.testing.assert_close(trusted[1], measured[1])
    assert not trusted[0].certificate.failed.any()


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_backends_that_repeat_judgements_refuse_trust(name):
    backend = BACKENDS[name]()
    objective = WithFisher(problem())
    if backend.refuses_trust:
        with pytest.raises(InputError, match="last step that is not judged"):
            solve(objective, "trusted", gradient=backend, optimizer=Momentum(0.1, 0.5))
    else:
        assert torch.isfinite(solve(objective, "trusted", gradient=backend).value).all()


def test_an_unknown_word_lists_the_known_ones():
    with pytest.raises(InputError, match="last_step 'maybe': choose one of judged, measured, tru"):
        solve(problem(), "maybe")


@pytest.mark.parametrize("optimizer", [LevenbergMarquardt(), GradientDescent(lr=0.3)])
def test_the_start_is_kept_with_what_was_seen_there(optimizer):
    objective = problem()
    solution = solve(objective, "judged", optimizer=optimizer)
    start = randn(4, 3, seed=2).requires_grad_()
    value = objective(start)
    (slope,) = torch.autograd.grad(value.sum(), start)
    assert torch.equal(solution.start.y, start)
    torch.testing.assert_close(solution.start.value, value.detach())
    torch.testing.assert_close(solution.start.gradient, slope)
