"""What every inner optimiser must do: one class that each of them inherits."""

import itertools

import pytest
import torch
from closed_forms import gradient_steps
from inner_problems import (
    Nonlinear,
    Quadratic,
    for_optimizer,
    log_cosh,
    nonlinear_inputs,
    randn,
    spd,
)

import savi
from savi.errors import InputError
from savi.gradients import StopGradient, Unrolled
from savi.inner import (
    LBFGS,
    OPTIMIZERS,
    Adam,
    ChordLevenbergMarquardt,
    GaussNewton,
    GradientDescent,
    LevenbergMarquardt,
    Momentum,
    NaturalGradient,
    Newton,
)
from savi.inner.optimizers import Point
from savi.inner.optimizers.levenberg_marquardt import MIN_DAMPING


def solve(objective, init, optimizer, gradient=None, **options):
    return savi.minimize(
        for_optimizer(objective, optimizer),
        init,
        optimizer=optimizer,
        gradient=gradient or StopGradient(),
        **options,
    )


def test_every_registered_optimizer_passes_the_conformance_tests():
    tested = {type(cls.optimizer) for cls in OptimizerConformance.__subclasses__()}
    assert tested == set(OPTIMIZERS.values())


class OptimizerConformance:
    optimizer = None
    absurd = ()
    steps_to_converge = 3000

    def test_reaches_the_minimiser_of_a_quadratic(self):
        problem = Quadratic(spd(5, 3, ceiling=6.0), randn(5, 3, seed=1))
        solution = solve(
            problem,
            randn(5, 3, seed=2),
            self.optimizer,
            max_steps=self.steps_to_converge,
            rtol=1e-8,
        )
        torch.testing.assert_close(solution.value, problem.minimiser, rtol=1e-6, atol=1e-6)
        assert (solution.status == savi.Status.CONVERGED).all()
        assert (solution.stationarity <= 1e-8).all()
        torch.testing.assert_close(solution.objective, problem(solution.value))

    def test_stays_at_a_minimiser(self):
        problem = Quadratic(spd(2, 3), torch.zeros(2, 3, dtype=torch.float64))
        solution = solve(problem, torch.zeros(2, 3, dtype=torch.float64), self.optimizer, rtol=0.0)
        assert (solution.value == 0).all()
        assert (solution.status == savi.Status.CONVERGED).all()
        assert (solution.stationarity == 0).all()
        assert (solution.steps == 0).all()

    def test_gradient_of_the_step_map(self):
        """The unrolled derivative against finite differences of the K steps themselves."""
        mixing, c, init = nonlinear_inputs()

        def step_map(a, b, y):
            return solve(
                Nonlinear(a, b), y, self.optimizer, Unrolled(), max_steps=3, rtol=0.0
            ).value

        torch.autograd.gradcheck(step_map, (mixing, c, init), atol=1e-6, rtol=1e-5)

    # Where a difference changes what a step decides, there is no derivative to compare with.
    @pytest.mark.drawn
    @pytest.mark.filterwarnings("ignore:no gradient but the start's")
    def test_gradient_with_an_example_that_freezes_early(self):
        mixing, c, init = nonlinear_inputs(batch=2)
        solved = solve(Nonlinear(mixing, c), init, LevenbergMarquardt(), max_steps=50, rtol=1e-12)
        # Example 0 starts next to its solution, example 1 far away.
        start = torch.stack([solved.value[0] + 1e-3, init[1].detach() * 5.0]).requires_grad_()
        tolerance = {"max_steps": 4, "rtol": 0.0, "atol": 1e-2}
        steps = solve(Nonlinear(mixing, c), start, self.optimizer, **tolerance).steps
        assert steps[0] < steps[1]
        torch.autograd.gradcheck(
            lambda a, b, y: (
                solve(Nonlinear(a, b), y, self.optimizer, Unrolled(), **tolerance).value
            ),
            (mixing, c, start),
            atol=1e-6,
            rtol=1e-5,
        )

    def test_a_frozen_neighbour_keeps_the_unrolled_gradient_finite(self):
        """Long after one example has converged, to the last bit, or stalled."""
        init = torch.tensor([[0.0, 0.0], [1.0, -9.0]], dtype=torch.float64)
        theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        value = solve(
            lambda y: theta * log_cosh(y - 0.1 * theta),
            init,
            self.optimizer,
            Unrolled(),
            max_steps=80,
            rtol=1e-9,
        ).value
        (g,) = torch.autograd.grad(value.sum(), theta)
        assert g.isfinite()

    @pytest.mark.parametrize("seed", range(3))
    def test_never_makes_things_worse(self, seed):
        """Random wild problems, convex and not, with absurd options."""
        y, scale = 5.0 * randn(16, 3, seed=seed), (4.0 * randn(16, 1, seed=seed + 50)).exp()
        tilt = randn(16, 3, seed=seed + 99)
        problems = (
            lambda y: ((scale * y).square() + y**4).sum(-1),
            lambda y: (scale * y).sin().sum(-1) + (tilt * y).sum(-1),
            lambda y: y[:, 0] * y[:, 1] + y[:, 2].exp(),
            lambda y: (y + 1.0).log().sum(-1) + y.square().sum(-1),
        )
        for optimizer in (self.optimizer, *self.absurd):
            for problem in problems:
                self.check_never_worse(problem, y, optimizer)
            self.check_never_worse(problems[2], y.float(), optimizer)

    def check_never_worse(self, problem, start, optimizer):
        solution = solve(problem, start, optimizer, max_steps=12, rtol=1e-6)
        before, after = problem(start), problem(solution.value)
        rounding = 1e2 * torch.finfo(start.dtype).eps * before.abs()
        finite = before.isfinite()
        assert finite.any()
        assert (after[finite] <= (before + rounding)[finite]).all()
        assert solution.value[finite].isfinite().all()
        assert (solution.status[~finite] == savi.Status.DIVERGED).all()
        torch.testing.assert_close(solution.objective, after, equal_nan=True)

    def test_examples_are_independent(self):
        init = randn(4, 2, seed=0) * torch.tensor([[1.0], [30.0], [1e-3], [torch.nan]]).double()
        options = {"max_steps": 9, "rtol": 1e-4}
        problem = lambda y: (y.square() + (3.0 * y).cos()).sum(-1)  # noqa: E731
        together = solve(problem, init, self.optimizer, **options)
        for b in range(4):
            alone = solve(problem, init[b : b + 1], self.optimizer, **options)
            for field in ("value", "status", "steps", "stationarity", "objective"):
                torch.testing.assert_close(
                    getattr(alone, field)[0], getattr(together, field)[b], equal_nan=True
                )

    def test_float32_near_convergence(self):
        """With no tolerance at all the solve ends at rounding level, and says so."""
        problem = Quadratic(spd(4, 3).float(), randn(4, 3, seed=1, dtype=torch.float32))
        solution = solve(
            problem,
            torch.zeros(4, 3),
            self.optimizer,
            max_steps=self.steps_to_converge,
            rtol=0.0,
        )
        torch.testing.assert_close(solution.value, problem.minimiser, rtol=1e-3, atol=1e-3)
        assert (solution.status != savi.Status.DIVERGED).all()


class Monotone:
    """What an optimiser must do that judges its trials."""

    def test_never_raises_the_objective_of_any_example(self):
        start = 4.0 * randn(20, 2, seed=0)
        problem = lambda y: log_cosh(y) + 0.3 * (3.0 * y).sin().sum(-1)  # noqa: E731
        values = [
            problem(solve(problem, start, self.optimizer, max_steps=k, rtol=1e-8).value)
            for k in range(12)
        ]
        for before, after in itertools.pairwise(values):
            assert (after <= before + 1e-14 * before.abs()).all()

    @pytest.mark.drawn
    @pytest.mark.parametrize("scale", [1e-2, 1e2])
    def test_another_scale_of_the_objective_needs_no_tuning(self, scale):
        mixing, c, init = (t.detach() for t in nonlinear_inputs())
        problem = Nonlinear(mixing, c)
        plain, scaled = (
            solve(lambda y, s=s: s * problem(y), init, self.optimizer, max_steps=100, rtol=1e-9)
            for s in (1.0, scale)
        )
        assert (scaled.status == savi.Status.CONVERGED).all()
        torch.testing.assert_close(scaled.value, plain.value)
        assert (scaled.steps <= 2 * plain.steps + 10).all()


class TestGradientDescent(OptimizerConformance):
    optimizer = GradientDescent(lr=0.3)
    absurd = (GradientDescent(1e-12), GradientDescent(1e3), GradientDescent(1e30, momentum=0.99))

    @pytest.mark.parametrize("steps", [1, 6])
    def test_closed_form(self, steps):
        problem = Quadratic(spd(3, 4, ceiling=3.0), randn(3, 4, seed=1))
        init = randn(3, 4, seed=2)
        value = solve(problem, init, self.optimizer, max_steps=steps, rtol=0.0).value
        expected = gradient_steps(init, problem.minimiser, problem.hessian, 0.3, steps)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)


class TestMomentum(OptimizerConformance):
    optimizer = Momentum(lr=0.1)
    absurd = (Momentum(1e5),)

    def test_heavy_ball(self):
        problem = Quadratic(spd(2, 3), randn(2, 3, seed=1))
        y = start = randn(2, 3, seed=2)
        velocity = torch.zeros_like(y)
        for _ in range(5):
            gradient = (problem.hessian @ y.unsqueeze(-1)).squeeze(-1) - problem.linear
            velocity = 0.9 * velocity - 0.1 * gradient
            y = y + velocity
        torch.testing.assert_close(
            solve(problem, start, Momentum(lr=0.1), max_steps=5, rtol=0.0).value, y
        )


class TestAdam(OptimizerConformance):
    optimizer = Adam(lr=0.05)
    absurd = (Adam(1e6), Adam(1e-9))

    def test_agrees_with_torch(self):
        problem = Quadratic(spd(2, 3), randn(2, 3, seed=1))
        start = randn(2, 3, seed=2)
        y = start.clone().requires_grad_()
        reference = torch.optim.Adam([y], lr=0.05)
        for _ in range(7):
            reference.zero_grad()
            problem(y).sum().backward()
            reference.step()
        value = solve(problem, start, self.optimizer, max_steps=7, rtol=0.0).value
        torch.testing.assert_close(value, y.detach(), rtol=1e-6, atol=1e-6)

    def test_second_derivative_exists_where_a_gradient_entry_is_zero(self):
        init = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
        theta = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        value = solve(
            lambda y: theta * (y[:, 0] - 1.0).square() + 0.0 * y[:, 1],
            init,
            self.optimizer,
            Unrolled(),
            max_steps=3,
        ).value
        g = torch.autograd.grad(value.sum(), (theta, init))
        assert all(part.isfinite().all() for part in g)


class TestGaussNewton(OptimizerConformance):
    optimizer = GaussNewton(lr=0.5, decay=False)
    steps_to_converge = 100
    absurd = (GaussNewton(1e4), GaussNewton(1e-9))

    def test_full_step_solves_a_quadratic(self):
        problem = Quadratic(spd(3, 4), randn(3, 4, seed=1))
        start = randn(3, 4, seed=2)
        solution = solve(problem, start, GaussNewton(1.0), max_steps=1)
        torch.testing.assert_close(solution.value, problem.minimiser, rtol=1e-10, atol=1e-10)

    def test_decaying_schedule(self):
        """Each step leaves the fraction 1 − lr/(t+1) of the error."""
        problem = Quadratic(spd(3, 4), torch.zeros(3, 4, dtype=torch.float64))
        start = randn(3, 4, seed=2)
        value = solve(problem, start, GaussNewton(0.5), max_steps=3, rtol=0.0).value
        left = (1 - 0.5) * (1 - 0.5 / 2) * (1 - 0.5 / 3)
        torch.testing.assert_close(value, left * start, rtol=1e-10, atol=1e-10)

    def test_indefinite_curvature_stalls_and_is_reported(self):
        saddle = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
        solution = solve(lambda y: y[:, 0].square() - y[:, 1].square(), saddle, self.optimizer)
        assert solution.status.tolist() == [savi.Status.STALLED]
        torch.testing.assert_close(solution.value, saddle)


class TestNewton(Monotone, OptimizerConformance):
    optimizer = Newton()
    absurd = (Newton(1e-300), Newton(1e7))
    steps_to_converge = 60


class TestChord(Monotone, OptimizerConformance):
    optimizer = ChordLevenbergMarquardt()
    absurd = (ChordLevenbergMarquardt(1e-300), ChordLevenbergMarquardt(1e7, patience=1))
    steps_to_converge = 60


class TestLBFGS(Monotone, OptimizerConformance):
    optimizer = LBFGS()
    absurd = (LBFGS(1), LBFGS(30))
    steps_to_converge = 60


class TestNaturalGradient(Monotone, OptimizerConformance):
    optimizer = NaturalGradient()
    absurd = (NaturalGradient(1e12), NaturalGradient(1e-12))
    steps_to_converge = 600


class TestLevenbergMarquardt(Monotone, OptimizerConformance):
    optimizer = LevenbergMarquardt()
    absurd = (LevenbergMarquardt(1e-300), LevenbergMarquardt(1e7))
    steps_to_converge = 60

    def test_gradient_of_the_step_map_with_rejected_steps(self):
        """Also with gain ratios between the thresholds, where a smooth rule would move μ."""
        start = torch.tensor([[1.6], [2.5], [0.7]], dtype=torch.float64, requires_grad=True)
        theta = torch.tensor([0.1, 1.3], dtype=torch.float64, requires_grad=True)

        def problem(t):
            return lambda y: log_cosh(y * t[1] - t[0])

        first = solve(problem(theta), start, self.optimizer, max_steps=1).value
        assert (first == start).squeeze(-1).tolist() == [True, True, False]

        def step_map(t, y):
            return solve(problem(t), y, self.optimizer, Unrolled(), max_steps=5, rtol=0.0).value

        torch.autograd.gradcheck(step_map, (theta, start), atol=1e-6, rtol=1e-5)

    def test_indefinite_hessian_is_damped_until_it_descends(self):
        """Also where its diagonal is 0, so that only the floor of D can help."""
        start = torch.tensor([[0.3, 0.1]], dtype=torch.float64)
        problem = lambda y: y[:, 0] * y[:, 1] + (y**4).sum(-1)  # noqa: E731
        solution = solve(problem, start, self.optimizer, max_steps=100, rtol=1e-8)
        assert solution.status.tolist() == [savi.Status.CONVERGED]
        assert solution.objective.item() == pytest.approx(-0.125)

    def test_kink_is_reported_as_a_stall(self):
        start = torch.tensor([[1.0]], dtype=torch.float64)
        problem = lambda y: y.abs().sum(-1) + 0.1 * y.square().sum(-1)  # noqa: E731
        solution = solve(problem, start, self.optimizer, max_steps=300)
        assert solution.status.tolist() == [savi.Status.STALLED]
        assert solution.value.abs().item() < 0.1

    def test_damping_stays_in_range(self):
        """An infinite μ would be NaN in the backward of a frozen example."""
        y = torch.zeros(1, 1, dtype=torch.float64)
        zero, state = y[:, 0], self.optimizer.init(y)._replace(predicted=torch.ones_like(y[:, 0]))
        for rise in (1.0, -1.0):
            for _ in range(100):
                _, state = self.optimizer.judge(Point(y, zero, y), y, zero + rise, state)
            assert MIN_DAMPING <= state.mu.item() <= 2.0 * self.optimizer.max_damping

    def test_step_does_not_depend_on_the_scale_of_a_coordinate(self):
        start, scale = randn(3, 2, seed=0), torch.tensor([10.0, 0.1], dtype=torch.float64)
        coupled = lambda y: log_cosh(y) + 0.1 * y.square().sum(-1)  # noqa: E731
        plain = solve(coupled, start, LevenbergMarquardt(damping=0.5), max_steps=1).value
        scaled = solve(
            lambda y: coupled(y * scale),
            start / scale,
            LevenbergMarquardt(damping=0.5),
            max_steps=1,
        ).value
        torch.testing.assert_close(scaled * scale, plain, rtol=1e-1, atol=1e-2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GradientDescent(lr=0.0), "^lr is 0"),
        (lambda: GradientDescent(lr=float("nan")), "^lr is nan"),
        (lambda: GradientDescent(momentum=1.0), "^momentum is 1"),
        (lambda: GradientDescent(momentum=-0.1), "^momentum is -0.1"),
        (lambda: Momentum(lr=-1.0), "^lr is -1"),
        (lambda: Adam(lr=float("inf")), "^lr is inf"),
        (lambda: Adam(beta1=1.0), "^beta1 is 1"),
        (lambda: Adam(beta2=-0.5), "^beta2 is -0.5"),
        (lambda: Adam(eps=0.0), "^eps is 0"),
        (lambda: GaussNewton(lr=0.0), "^lr is 0"),
        (lambda: LevenbergMarquardt(damping=0.0), "^damping is 0"),
        (
            lambda: LevenbergMarquardt(damping=1.0, max_damping=0.5),
            "^damping is 1.0: set it below max_damping 0.5",
        ),
        (lambda: ChordLevenbergMarquardt(patience=0), "^patience is 0"),
        (lambda: Newton(damping=-1.0), "^damping is -1"),
        (lambda: LBFGS(history=0), "^history is 0"),
        (lambda: LBFGS(history=2.5), "^history is 2.5"),
        (lambda: NaturalGradient(lr=0.0), "^lr is 0"),
        (lambda: OPTIMIZERS["nope"], f"choose one of {', '.join(sorted(OPTIMIZERS))}"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(build, message):
    with pytest.raises(InputError, match=message) as error:
        build()
    assert "\n" not in str(error.value)
