"""The trust region: bisection as the reference, feasibility, descent, and the inactive case."""

import itertools

import pytest
import torch
from inner_problems import Nonlinear, nonlinear_inputs, randn, spd
from linear_gaussian import linear_gaussian, objective_of, start
from torch.linalg import vector_norm
from trust_regions import quadratic_inputs, quadratic_region, reference

import savi
from savi.errors import InputError
from savi.gradients import StopGradient
from savi.inner import (
    LBFGS,
    Adam,
    AutogradObjective,
    GaussNewton,
    GradientDescent,
    InnerObjective,
    LevenbergMarquardt,
    Momentum,
    Newton,
)
from savi.inner.anchored import Proximal
from savi.inner.sphere import minimise_on_sphere
from savi.inner.trust_region import TrustRegion

OPTIMIZERS = [
    GradientDescent(0.3),
    Momentum(0.1),
    Adam(0.05),
    LevenbergMarquardt(),
    GaussNewton(1.0, decay=False),
    GaussNewton(0.5, decay=False),
    Newton(),
    LBFGS(),
]
IDS = [
    "gd", "momentum", "adam", "levenberg_marquardt", "gauss_newton", "damped", "newton", "lbfgs",
]  # fmt: skip


def solve(objective, init, optimizer, **options):
    return savi.minimize(
        objective, init.detach(), optimizer=optimizer, gradient=StopGradient(), **options
    )


def hilly(y):
    """Valleys and hills."""
    return (y.square() + 3.0 * (2.0 * y).cos()).sum(-1)


def inputs():
    return [t.detach() for t in quadratic_inputs()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=IDS)
class TestEveryOptimizer:
    def test_finds_the_solution_and_its_multiplier(self, optimizer):
        h, c, anchor, radius = inputs()
        solution = solve(
            quadratic_region(h, c, anchor, radius), anchor, optimizer, max_steps=5000, rtol=1e-9
        )
        expected, multiplier = reference(h, c, anchor, radius)
        assert (solution.status == savi.Status.CONVERGED).all()
        torch.testing.assert_close(solution.value, expected, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(solution.multiplier, multiplier, rtol=1e-7, atol=1e-7)
        assert (multiplier > 0).tolist() == [True, True, True, False]
        assert solution.multiplier[3] == 0
        assert (solution.stationarity <= 1e-9).all()

    def test_stays_feasible_and_below_its_start(self, optimizer):
        """Of a problem with valleys and hills, seen after every step."""
        anchor, radius = 2.0 * randn(12, 3, seed=0), 0.1 * randn(12, seed=1).exp()
        problem = TrustRegion(AutogradObjective(hilly), anchor, radius)
        ends = [
            solve(problem, anchor, optimizer, max_steps=k, rtol=1e-9, atol=1e-12) for k in range(12)
        ]
        for end in ends:
            distance = vector_norm(end.value - anchor, dim=-1)
            assert (distance <= radius + 1e-14).all()
            assert (end.objective <= ends[0].objective + 1e-14).all()

    def test_a_ball_that_is_never_left_changes_nothing(self, optimizer):
        mixing, c, anchor = (t.detach() for t in nonlinear_inputs())
        base = AutogradObjective(Nonlinear(mixing, c))
        options = {"max_steps": 30, "rtol": 1e-6}
        free = solve(base, anchor, optimizer, **options)
        bounded = solve(TrustRegion(base, anchor, 1e3), anchor, optimizer, **options)
        for field in ("status", "steps"):
            assert torch.equal(getattr(free, field), getattr(bounded, field))
        for field in ("value", "stationarity", "objective"):
            ours, expected = getattr(bounded, field), getattr(free, field)
            torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)
        assert free.multiplier is None
        assert (bounded.multiplier == 0).all()

    def test_examples_are_independent(self, optimizer):
        """Held back, free, hopeless and non-finite neighbours."""
        h, c, anchor, radius = inputs()
        c[1], h[2] = torch.nan, 1e6 * h[2]
        options = {"max_steps": 7, "rtol": 1e-4}

        def run(rows):
            problem = quadratic_region(h[rows], c[rows], anchor[rows], radius[rows])
            return solve(problem, anchor[rows], optimizer, **options)

        together = run([0, 1, 2, 3])
        for b in range(4):
            alone = run([b])
            for field in ("value", "status", "steps", "stationarity", "objective", "multiplier"):
                torch.testing.assert_close(
                    getattr(alone, field)[0], getattr(together, field)[b], equal_nan=True
                )
        assert together.status[1] == savi.Status.DIVERGED
        assert torch.equal(together.value[1], anchor[1])

    def test_in_single_precision(self, optimizer):
        h, c, anchor, radius = (t.float() for t in inputs())
        solution = solve(
            quadratic_region(h, c, anchor, radius), anchor, optimizer, max_steps=2000, rtol=1e-4
        )
        expected, _ = reference(*inputs())
        torch.testing.assert_close(solution.value, expected.float(), rtol=1e-2, atol=1e-2)
        assert (solution.status == savi.Status.CONVERGED).all()
        assert (vector_norm(solution.value - anchor, dim=-1) <= radius * (1.0 + 1e-5)).all()


@pytest.mark.parametrize("optimizer", [GradientDescent(0.05), LevenbergMarquardt()])
def test_short_projected_steps_and_damped_ones_descend(optimizer):
    anchor, radius = 2.0 * randn(12, 3, seed=0), 0.1 * randn(12, seed=1).exp()
    problem = TrustRegion(AutogradObjective(hilly), anchor, radius)
    values = [solve(problem, anchor, optimizer, max_steps=k, rtol=0.0).objective for k in range(12)]
    for before, after in itertools.pairwise(values):
        assert (after <= before + 1e-13).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_solution_is_that_of_the_proximal_problem_with_its_multiplier(seed):
    torch.manual_seed(seed)
    problem = linear_gaussian(n=1)
    anchor, base = start(problem), objective_of(problem.model, problem.x)
    options = {"max_steps": 200, "rtol": 1e-12}
    bounded = solve(TrustRegion(base, anchor, 0.3), anchor, LevenbergMarquardt(), **options)
    rho = float(bounded.multiplier)
    assert rho > 0
    proximal = solve(Proximal(base, anchor, rho), anchor, LevenbergMarquardt(), **options)
    torch.testing.assert_close(bounded.value, proximal.value, rtol=1e-8, atol=1e-8)


def test_a_concave_objective_is_minimised_on_the_sphere():
    """Where J has no minimum at all, its multiplier exceeds its negative curvature."""
    anchor, direction = torch.zeros(2, 2).double(), torch.tensor([[1.0, 0.0], [0.3, -0.4]]).double()
    concave = lambda y: (y * direction).sum(-1) - y.square().sum(-1)  # noqa: E731
    for optimizer in (LevenbergMarquardt(), GradientDescent(0.1)):
        problem = TrustRegion(AutogradObjective(concave), anchor, 0.5)
        solution = solve(problem, anchor, optimizer, max_steps=300, rtol=1e-9)
        size = vector_norm(direction, dim=-1, keepdim=True)
        torch.testing.assert_close(solution.value, -0.5 * direction / size)
        torch.testing.assert_close(solution.multiplier, 2.0 + 2.0 * size.squeeze(-1))
        assert (solution.status == savi.Status.CONVERGED).all()


class TestModelStep:
    def test_is_the_minimiser_of_the_model_in_the_ball(self):
        h, c, anchor, radius = inputs()
        y = anchor + 0.3 * radius.unsqueeze(-1) * torch.nn.functional.normalize(randn(4, 3, seed=5))
        problem = quadratic_region(h, c, anchor, radius)
        _, g = problem.gradient(y)
        delta, failed = problem.model_step(h, g, y)
        assert not failed.any()
        torch.testing.assert_close(y + delta, reference(h, c, anchor, radius)[0])

    def test_has_two_derivatives(self):
        h, c, anchor, radius = quadratic_inputs(batch=2, size=2)

        def delta(h, g, y, anchor, radius):
            h = 0.5 * (h + h.mT)
            return quadratic_region(h, c, anchor, radius).model_step(h, g, y)[0]

        y = (anchor + 0.05 * randn(2, 2, seed=5)).detach().requires_grad_()
        g = quadratic_region(h, c, anchor, radius).gradient(y)[1].detach().requires_grad_()
        torch.autograd.gradcheck(delta, (h, g, y, anchor, radius))
        torch.autograd.gradgradcheck(delta, (h, g, y, anchor, radius), atol=1e-4)

    def test_says_which_blocks_are_not_positive_definite(self):
        h, c, anchor, radius = inputs()
        h[1] *= -1.0
        problem = quadratic_region(h, c, anchor, radius)
        delta, failed = problem.model_step(h, problem.gradient(anchor)[1], anchor)
        assert failed.tolist() == [False, True, False, False]
        assert (delta[1] == 0).all()
        assert (delta[[0, 2, 3]] != 0).all()

    @pytest.mark.parametrize("condition", [1.0, 1e6, 1e12])
    @pytest.mark.parametrize("radius", [1e-8, 1.0, 1e3])
    def test_is_feasible_however_badly_scaled(self, condition, radius):
        scale = torch.logspace(0, -torch.tensor(condition).log10().item(), 4).double()
        q, _ = torch.linalg.qr(randn(3, 4, 4, seed=0))
        h = q @ torch.diag(scale) @ q.mT
        problem = TrustRegion(AutogradObjective(lambda y: y.sum(-1)), torch.zeros(3, 4), radius)
        g = 1e4 * randn(3, 4, seed=1)
        delta, failed = problem.model_step(0.5 * (h + h.mT), g, torch.zeros(3, 4).double())
        assert not failed.any()
        torch.testing.assert_close(
            vector_norm(delta, dim=-1), torch.full((3,), radius).double(), rtol=1e-12, atol=0
        )

    def test_without_a_finite_multiplier_there_is_no_step(self):
        g = torch.tensor([[1.0, 1.0], [1.0, torch.inf]], dtype=torch.float64, requires_grad=True)
        delta, failed = minimise_on_sphere(spd(2, 2), g, torch.zeros_like(g), torch.ones(2) * 0.1)
        assert failed.tolist() == [False, True]
        assert (delta[1] == 0).all()
        (gradient,) = torch.autograd.grad(delta.sum(), g)
        assert gradient.isfinite().all()


class TestProjection:
    def region(self, radius=1.0):
        anchor = randn(4, 3, seed=0)
        n = torch.nn.functional.normalize(randn(4, 3, seed=1))
        sizes = torch.tensor([[0.5], [1.5], [30.0], [1.0]], dtype=torch.float64)
        return TrustRegion(AutogradObjective(lambda y: y.sum(-1)), anchor, radius), anchor, n, sizes

    def test_is_the_nearest_point_of_the_ball(self):
        problem, anchor, n, sizes = self.region()
        projected = problem.project(anchor + sizes * n)
        torch.testing.assert_close(projected, anchor + sizes.clamp_max(1.0) * n)
        assert problem.project(projected) is projected

    def test_is_the_nearest_point_in_another_metric(self):
        problem, anchor, n, sizes = self.region()
        metric = (2.0 * randn(4, 3, seed=2)).exp()
        y = anchor + sizes * n
        projected = problem.project(y, metric=metric)
        assert torch.equal(projected[[0, 3]], y[[0, 3]])
        p, pull = (projected - anchor)[1:3], (metric * (y - projected))[1:3]
        torch.testing.assert_close(vector_norm(p, dim=-1), torch.ones(2).double())
        # D (y − p) is normal to the sphere, and points outwards.
        torch.testing.assert_close(pull, p * (pull * p).sum(-1, keepdim=True))
        assert ((pull * p).sum(-1) > 0).all()

    def test_has_two_derivatives(self):
        _, anchor, n, sizes = self.region()
        y, metric = (anchor + sizes * n)[1:3], randn(2, 3, seed=2).exp()

        def project(y, anchor, radius, metric):
            base = AutogradObjective(lambda y: y.sum(-1))
            region = TrustRegion(base, anchor, radius)
            return region.project(y), region.project(y, metric=metric)

        arguments = [
            t.detach().requires_grad_()
            for t in (y, anchor[1:3], torch.tensor([0.8, 1.0], dtype=torch.float64), metric)
        ]
        torch.autograd.gradcheck(project, arguments)
        torch.autograd.gradgradcheck(project, arguments, atol=1e-4)

    def test_leaves_what_is_not_finite_to_the_loop(self):
        problem, anchor, _, _ = self.region()
        y = anchor.clone()
        y[0, 0], y[1, 1] = torch.nan, torch.inf
        torch.testing.assert_close(problem.project(y), y, equal_nan=True)


def test_conditions_at_a_boundary_point():
    """Pushed outwards: held back. Pushed inwards, or inside the ball: as without a constraint."""
    anchor = torch.zeros(3, 2).double()
    y = torch.tensor([[2.0, 0.0], [2.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    g = torch.tensor([[-3.0, 1.0], [3.0, 1.0], [-3.0, 1.0]], dtype=torch.float64)
    problem = TrustRegion(AutogradObjective(lambda y: y.sum(-1)), anchor, 2.0)
    torch.testing.assert_close(problem.multiplier(y, g), y.new_tensor([1.5, 0.0, 0.0]))
    torch.testing.assert_close(
        problem.residual(y, g), y.new_tensor([[0.0, 1.0], [3.0, 1.0], [-3.0, 1.0]])
    )


def test_a_start_outside_the_ball_is_projected_first():
    h, c, anchor, radius = inputs()
    far = anchor + 100.0
    problem = quadratic_region(h, c, anchor, radius)
    none = solve(problem, far, LevenbergMarquardt(), max_steps=0)
    torch.testing.assert_close(vector_norm(none.value - anchor, dim=-1), radius)
    solution = solve(problem, far, LevenbergMarquardt(), max_steps=50, rtol=1e-11)
    torch.testing.assert_close(solution.value, reference(h, c, anchor, radius)[0])


def test_it_passes_on_what_the_base_knows_better():
    class Structured(InnerObjective):
        gauss_newton = True

        def __call__(self, y):
            return y.square().sum(-1)

        def gradient(self, y, create_graph=False):
            return self(y.detach()), 2.0 * y + 1.0

        def curvature(self, y, create_graph=False):
            return torch.eye(2).double().expand(len(y), 2, 2)

    y = randn(3, 2, seed=0)
    problem = TrustRegion(Structured(), y, 1.0)
    assert problem.gauss_newton
    assert problem.anchored
    assert problem.constrained
    assert not Structured().constrained
    assert problem.at_step(4) is problem
    torch.testing.assert_close(problem(y), problem.value(y))
    torch.testing.assert_close(problem.gradient(y)[1], 2.0 * y + 1.0)
    torch.testing.assert_close(problem.curvature(y), Structured().curvature(y))


def test_the_problem_of_a_step_has_that_step_s_noise():
    class Tilted(InnerObjective):
        stochastic = True

        def __init__(self, step=0):
            self.tilt = step + 1.0

        def __call__(self, y):
            return self.tilt * y.sum(-1)

        def at_step(self, step):
            return Tilted(step)

    y = torch.ones(2, 3)
    problem = TrustRegion(Tilted(), y, 0.5)
    assert problem.stochastic
    assert problem.at_step(3)(y).tolist() == [12.0, 12.0]
    solution = solve(problem, y, GradientDescent(0.1), max_steps=3)
    torch.testing.assert_close(solution.value, torch.full((2, 3), 1.0 - 0.5 / 3.0**0.5))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    expected, _ = reference(*inputs())
    with mode():
        h, c, anchor, radius = (t * 1.0 for t in inputs())
        problem = quadratic_region(h, c, anchor, radius)
        for optimizer in (LevenbergMarquardt(), Adam()):
            solution = solve(problem, anchor, optimizer, max_steps=400, rtol=1e-5)
            assert not solution.value.requires_grad
            torch.testing.assert_close(solution.value, expected, rtol=1e-3, atol=1e-3)


def test_a_half_precision_anchor():
    anchor = randn(3, 2, seed=0).bfloat16()
    problem = TrustRegion(AutogradObjective(lambda y: (y - 3.0).square().sum(-1)), anchor, 0.3)
    solution = solve(problem, anchor, LevenbergMarquardt())
    assert solution.value.dtype == torch.float32
    distance = vector_norm(solution.value - anchor, dim=-1)
    torch.testing.assert_close(distance, torch.full((3,), 0.3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("radius", "message"),
    [
        (0.0, r"^radius is 0\.0: set it to a finite number above 0"),
        (-1.0, r"^radius is -1\.0"),
        (float("nan"), r"^radius is nan"),
        (float("inf"), r"^radius is inf"),
        (torch.tensor([1.0, 2.0, -3.0]), r"^radius is -3\.0"),
        (torch.ones(2), r"^radius has shape \(2,\)"),
        (torch.ones(3, 2), r"^radius has shape \(3, 2\)"),
    ],
)
def test_a_bad_radius_is_refused_in_one_sentence(radius, message):
    with pytest.raises(InputError, match=message) as error:
        TrustRegion(AutogradObjective(lambda y: y.sum(-1)), torch.zeros(3, 2), radius)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("around", [Proximal, TrustRegion])
def test_a_plain_callable_is_a_base(around):
    def function(y):
        return (y - 3.0).square().sum(-1)

    anchor, at = randn(3, 2, seed=0), randn(3, 2, seed=1)
    plain, wrapped = around(function, anchor, 0.3), around(AutogradObjective(function), anchor, 0.3)
    assert plain(at).equal(wrapped(at))
    found = [solve(problem, anchor, LevenbergMarquardt()) for problem in (plain, wrapped)]
    assert found[0].value.equal(found[1].value)
    assert (found[0].status == savi.Status.CONVERGED).all()
