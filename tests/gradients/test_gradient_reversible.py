"""Integer momentum: exact in both directions, bounded, and refused where it cannot be."""

import math
from fractions import Fraction

import pytest
import torch
from inner_problems import Nonlinear, Quadratic, gradients, nonlinear_inputs, randn, spd

import savi
from savi.errors import InputError
from savi.gradients import Reversible, Unrolled
from savi.gradients.reversible import WORD, ExactMomentum, as_fraction
from savi.inner import Adam, AutogradObjective, GradientDescent, Momentum
from savi.inner.optimizers import Point
from savi.inner.trust_region import TrustRegion


@pytest.mark.parametrize("momentum", [0.9, 0.5, 0.99, 0.001, 1 / 3, 0.123])
def test_every_step_is_undone_to_the_last_bit(momentum):
    """Far more steps than one word of lost digits can hold."""
    y = randn(3, 2, seed=0)
    exact = ExactMomentum.like(0.1, momentum, y, y)
    kicks = [randn(3, 2, seed=k) for k in range(600)]
    states = [exact.init(y)]
    for gradient in kicks:
        y, state = exact.step(None, Point(y, None, gradient), states[-1], False)
        states.append(state)
    assert len(states[-1].words) >= math.floor(600 * math.log2(1 / momentum) / 64)
    state = states[-1]
    for before, gradient in zip(reversed(states[:-1]), reversed(kicks), strict=True):
        torch.testing.assert_close(exact.before(state), before.position.double() * exact.unit)
        state = exact.undo(state, gradient)
        for field in ("position", "velocity", "lost"):
            assert torch.equal(getattr(state, field), getattr(before, field))
        assert state.steps == before.steps
    assert state.words == ()


def test_the_buffer_never_overflows():
    y = randn(4, 3, seed=0)
    exact = ExactMomentum.like(0.1, 0.001, y, y)
    state = exact.init(y)
    for k in range(100):
        y, state = exact.step(None, Point(y, None, randn(4, 3, seed=k)), state, False)
        assert (state.lost >= 0).all()
        assert (state.lost <= state.filled).all()
        assert state.filled < WORD


def test_lost_bits_are_the_only_growth():
    """log2(1/m) bits a scalar and step, in words of 64."""
    steps, momentum = 1000, 0.9
    y = randn(2, 2, seed=0)
    exact = ExactMomentum.like(0.01, momentum, y, y)
    state = exact.init(y)
    for k in range(steps):
        y, state = exact.step(None, Point(y, None, randn(2, 2, seed=k)), state, False)
    bits = steps * math.log2(1 / momentum)
    assert bits / 64 - 1 <= len(state.words) <= bits / 50


def test_it_follows_the_floating_point_run():
    mixing, c, init = nonlinear_inputs()
    options = {"optimizer": Momentum(0.05, 0.9), "max_steps": 200, "rtol": 0.0}
    results = []
    for gradient in (Reversible(), Unrolled()):
        solution = savi.minimize(Nonlinear(mixing, c), init, gradient=gradient, **options)
        pulled = gradients(solution.value, (mixing, c, init), randn(*init.shape, seed=3))
        results.append([solution.value, *pulled])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


def test_a_row_out_of_range_diverges_and_leaves_its_neighbours_alone():
    hessian = torch.stack([torch.eye(2), 1e12 * torch.eye(2)]).double()
    c = randn(2, 2, seed=1).requires_grad_()
    options = {"optimizer": Momentum(0.2, 0.5), "max_steps": 50, "rtol": 0.0}
    problem, init = Quadratic(hessian, c), torch.ones(2, 2, dtype=torch.float64)
    solution = savi.minimize(problem, init, gradient=Reversible(), **options)
    assert solution.status[1] == savi.Status.DIVERGED
    torch.testing.assert_close(solution.value[1], init[1])
    (pulled,) = gradients(solution.value, (c,), torch.ones_like(c))
    alone = savi.minimize(
        Quadratic(hessian[:1], c[:1]), init[:1], gradient=Unrolled(), **options
    ).value
    expected = torch.autograd.grad(alone.sum(), c)[0]
    torch.testing.assert_close(pulled[0], expected[0], rtol=1e-9, atol=1e-9)
    assert (pulled[1] == 0).all()


def test_an_objective_that_is_not_deterministic_is_caught():
    calls = iter(range(1000))
    theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    solution = savi.minimize(
        lambda y: (y - theta * (1.0 + 1e-9 * next(calls))).square().sum(-1),
        torch.zeros(1, 1, dtype=torch.float64),
        gradient=Reversible(),
        optimizer=Momentum(0.1),
        max_steps=5,
        rtol=0.0,
    )
    with pytest.raises(RuntimeError, match="did not arrive at the start"):
        solution.value.sum().backward()


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (GradientDescent(0.1), "forgets where it came from, so give a momentum above 0"),
        (Adam(), r"so give optimizer=GradientDescent\(\) or Momentum\(\), or gradient="),
        (Momentum(0.1, 0.123456), "denominator of at most 1000, so round it, say to 0.123"),
        (Momentum(0.1, 1e-20), "so round it, say to 0.001"),
    ],
)
def test_what_cannot_be_reversed_is_refused(optimizer, message):
    with pytest.raises(InputError, match=message):
        savi.minimize(
            Quadratic(spd(1, 1), randn(1, 1, seed=0)),
            torch.zeros(1, 1, dtype=torch.float64),
            gradient=Reversible(),
            optimizer=optimizer,
        )


def test_a_constraint_is_refused():
    start = torch.zeros(1, 1, dtype=torch.float64)
    problem = TrustRegion(AutogradObjective(lambda y: y.square().sum(-1)), start, 1.0)
    with pytest.raises(InputError, match="a projection cannot be undone"):
        savi.minimize(problem, start, gradient=Reversible(), optimizer=Momentum())


def test_a_momentum_keeps_its_exact_fraction():
    assert as_fraction(0.9) == Fraction(9, 10)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_the_unit_of_the_variables_does_not_matter(scale):
    c = (scale * randn(3, 2, seed=1)).requires_grad_()
    init, hessian = scale * randn(3, 2, seed=2), spd(3, 2)
    options = {"optimizer": Momentum(0.1, 0.9), "max_steps": 100, "rtol": 0.0}
    results = []
    for gradient in (Reversible(), Unrolled()):
        value = savi.minimize(Quadratic(hessian, c), init, gradient=gradient, **options).value
        results.append([value / scale, *gradients(value, (c,), randn(3, 2, seed=3))])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)
