"""The implicit function theorem on the KKT conditions of a trust region."""

import pytest
import torch
from inner_problems import Nonlinear, Quadratic, gradients, nonlinear_inputs, randn, slope, spd
from linear_gaussian import linear_gaussian, objective_of, start
from torch.linalg import vector_norm
from torch.nn.functional import normalize
from trust_regions import quadratic_inputs, quadratic_region, reference

import savi
from savi.gradients import (
    Checkpointed,
    FiniteDifference,
    Implicit,
    ImplicitGradientWarning,
    StopGradient,
    Truncated,
    Unrolled,
)
from savi.inner import (
    AutogradObjective,
    GradientDescent,
    InnerObjective,
    LevenbergMarquardt,
    Momentum,
)
from savi.inner.anchored import Proximal
from savi.inner.trust_region import TrustRegion

EXACT = {"optimizer": LevenbergMarquardt(), "max_steps": 60, "rtol": 1e-13}
CG = Implicit("cg", rtol=1e-13)


def differences(inputs, w, step=1e-5):
    """Central differences of wᵀλ*, from bisection alone."""

    def outer(*inputs):
        return (w * reference(*inputs)[0]).sum()

    results = []
    for i, tensor in enumerate(inputs):
        gradient = torch.zeros_like(tensor)
        for j in range(tensor.numel()):
            ends = []
            for sign in (1.0, -1.0):
                moved = [t.detach().clone() for t in inputs]
                moved[i].view(-1)[j] += sign * step
                ends.append(outer(*moved))
            gradient.view(-1)[j] = (ends[0] - ends[1]) / (2.0 * step)
        results.append(gradient)
    return results


def symmetric(gradient):
    """The part of a gradient in H that a symmetric H can see."""
    return 0.5 * (gradient + gradient.mT)


@pytest.mark.parametrize("gradient", [Implicit(), CG], ids=["cholesky", "cg"])
def test_against_differences_of_an_independent_solver(gradient):
    inputs, w = quadratic_inputs(), randn(4, 3, seed=3)
    solution = savi.minimize(quadratic_region(*inputs), inputs[2], gradient=gradient, **EXACT)
    by_h, *others = gradients(solution.value, inputs, w)
    expected_h, *expected = differences(inputs, w)
    torch.testing.assert_close(symmetric(by_h), symmetric(expected_h), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(others, expected, rtol=1e-7, atol=1e-7)
    assert all(g[:3].abs().amax(dim=tuple(range(1, g.ndim))).gt(1e-3).all() for g in others)
    # The last example is free: neither λ0 nor r has a say.
    assert (others[1][3] == 0).all()
    assert others[2][3] == 0


@pytest.mark.parametrize("optimizer", [GradientDescent(0.3), LevenbergMarquardt()])
def test_the_unrolled_derivative_converges_to_it(optimizer):
    inputs, w = quadratic_inputs(), randn(4, 3, seed=3)
    results = []
    for gradient in (Unrolled(), Implicit()):
        solution = savi.minimize(
            quadratic_region(*inputs), inputs[2], optimizer=optimizer, gradient=gradient,
            max_steps=400, rtol=1e-13, atol=1e-14,
        )  # fmt: skip
        by_h, *others = gradients(solution.value, inputs, w)
        results.append([symmetric(by_h), *others])
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-8)


def test_the_unrolled_derivative_is_exact_before_convergence():
    mixing, c, anchor = nonlinear_inputs()
    radius = torch.tensor([0.3, 1.0, 50.0], dtype=torch.float64, requires_grad=True)
    for optimizer in (GradientDescent(0.2), LevenbergMarquardt(damping=0.3)):

        def steps(mixing, c, anchor, radius, optimizer=optimizer):
            problem = TrustRegion(AutogradObjective(Nonlinear(mixing, c)), anchor, radius)
            return savi.minimize(
                problem, anchor, optimizer=optimizer, gradient=Unrolled(), max_steps=3, rtol=0.0
            ).value

        torch.autograd.gradcheck(steps, (mixing, c, anchor, radius), atol=1e-6, rtol=1e-5)


def test_its_second_derivative_is_right():
    """The multiplier of a step on the sphere is differentiated twice, too."""
    theta = torch.tensor([1.3, 2.0, 0.4], dtype=torch.float64, requires_grad=True)
    anchor = torch.tensor([[0.4, 0.1]], dtype=torch.float64)

    def loss(t):
        base = AutogradObjective(lambda y: (t[0].exp() * y.square() + t[1] * y.cos()).sum(-1))
        problem = TrustRegion(base, anchor + t[2], 0.2)
        return savi.minimize(problem, anchor + t[2], gradient=Unrolled(), **EXACT).value.sum()

    torch.autograd.gradgradcheck(loss, (theta,))


@pytest.mark.parametrize("gradient", [Implicit(), CG, Unrolled(), StopGradient()])
def test_an_inactive_constraint_changes_no_gradient(gradient):
    mixing, c, anchor = nonlinear_inputs()
    base, w = AutogradObjective(Nonlinear(mixing, c)), randn(3, 2, seed=9)
    inputs, results = (mixing, c, anchor), []
    for problem in (base, TrustRegion(base, anchor, 40.0)):
        solution = savi.minimize(problem, anchor, gradient=gradient, **EXACT)
        results.append([solution.value, *gradients(solution.value, inputs, w)])
    for free, bounded in zip(*results, strict=True):
        torch.testing.assert_close(bounded, free, rtol=1e-12, atol=1e-14)
    if isinstance(gradient, Implicit):
        assert (results[1][3] == 0).all()


def test_examples_are_independent():
    """Held back, free and non-finite neighbours."""
    inputs, w = [t.detach() for t in quadratic_inputs()], randn(4, 3, seed=3)
    inputs[1][1] = torch.nan

    def run(rows):
        leaves = [t[rows].clone().requires_grad_() for t in inputs]
        solution = savi.minimize(
            quadratic_region(*leaves), leaves[2], gradient=Implicit(on_failure="mask"), **EXACT
        )
        return gradients(solution.value, leaves, w[rows])

    together = run([0, 1, 2, 3])
    for b in (0, 2, 3):
        for alone, all_ in zip(run([b]), together, strict=True):
            torch.testing.assert_close(alone[0], all_[b], rtol=1e-9, atol=1e-12)
            assert all_[b].isfinite().all()


def test_taylor_remainder_of_an_outer_loss():
    mixing, c, anchor = nonlinear_inputs()
    radius = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    inputs, w = (mixing, c, anchor, radius), randn(3, 2, seed=8)
    directions = [randn(*t.shape, seed=20 + i) for i, t in enumerate(inputs)]

    def loss(mixing, c, anchor, radius):
        base = AutogradObjective(Nonlinear(mixing, c))
        solution = savi.minimize(
            TrustRegion(base, anchor, radius), anchor, gradient=Implicit(), **EXACT
        )
        assert (solution.multiplier > 0).all()
        return base(solution.value).sum() + (w * solution.value).sum()

    at_zero = loss(*inputs)
    slopes = torch.autograd.grad(at_zero, inputs)
    rate = sum((g * d).sum() for g, d in zip(slopes, directions, strict=True))
    sizes = [0.02 * 2.0**-i for i in range(6)]
    remainders = []
    for h in sizes:
        moved = [t + h * d for t, d in zip(inputs, directions, strict=True)]
        remainders.append((loss(*moved) - at_zero - h * rate).abs().item())
    # Wrong is 1; where the second-order term happens to be small, it is more than 2.
    assert slope(sizes, remainders) > 1.9


@pytest.mark.drawn
def test_error_is_second_order_in_stationarity():
    """φ = J: at a distance ε the direct θ-gradient errs by O(ε), the corrected one by O(ε²)."""
    mixing, c, anchor = nonlinear_inputs()
    base = AutogradObjective(Nonlinear(mixing, c))

    def theta_gradient(gradient, steps, optimizer):
        solution = savi.minimize(
            TrustRegion(base, anchor.detach(), 0.7), anchor.detach(), optimizer=optimizer,
            gradient=gradient, max_steps=steps, rtol=1e-13,
        )  # fmt: skip
        assert (solution.multiplier > 0).all()
        (g,) = torch.autograd.grad(base(solution.value).sum(), mixing)
        return g, float(solution.stationarity.max())

    exact, _ = theta_gradient(StopGradient(), 60, LevenbergMarquardt())
    for gradient, order in (
        (StopGradient(), 1.0),
        (Implicit(max_stationarity=10.0, max_error=1e9), 2.0),
    ):
        distances, errors = [], []
        for steps in (6, 8, 10, 12, 14):
            result, stationarity = theta_gradient(gradient, steps, GradientDescent(0.2))
            distances.append(stationarity)
            errors.append(float((result - exact).norm()))
        assert slope(distances, errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")
def test_an_inexact_solution_leaves_finite_gradients(share):
    """At the centre, inside, on the sphere: wherever the steps ran out."""
    inputs = quadratic_inputs()
    y = inputs[2] + share * inputs[3].unsqueeze(-1) * normalize(randn(4, 3, seed=4))
    for gradient in (Implicit(), CG, Unrolled()):
        solution = savi.minimize(
            quadratic_region(*inputs), y.detach(), optimizer=GradientDescent(1e-6),
            gradient=gradient, max_steps=1,
        )  # fmt: skip
        for g in gradients(solution.value, inputs, randn(4, 3, seed=3)):
            assert g.isfinite().all()


class TestLinearization:
    def linearize(self):
        h, c, anchor, radius = (t.detach() for t in quadratic_inputs())
        value, multiplier = reference(h, c, anchor, radius)
        linearization = quadratic_region(h, c, anchor, radius).linearize(value)
        return linearization, h, multiplier, normalize(value - anchor)

    def test_conditions_vanish_at_the_solution(self):
        linearization, h, multiplier, _ = self.linearize()
        assert (linearization.residual.abs() < 1e-12).all()
        torch.testing.assert_close(linearization.multiplier, multiplier)
        torch.testing.assert_close(linearization.hessian(), h)

    def test_the_adjoint_is_that_of_the_jacobian(self):
        """∂G/∂λ row by row from autograd, against the two-part solve."""
        linearization, _, _, _ = self.linearize()
        jacobian = torch.stack(
            [
                torch.autograd.grad(
                    linearization.residual, linearization.point, e.expand(4, 3), retain_graph=True
                )[0]
                for e in torch.eye(3, dtype=torch.float64)
            ],
            dim=1,
        )
        v, matrix = randn(4, 3, seed=6), linearization.operator().dense()
        u = linearization.adjoint(v, lambda rhs: torch.linalg.solve(matrix, rhs))
        torch.testing.assert_close(u, torch.linalg.solve(jacobian.mT, v))

    def test_the_operator_is_one_positive_definite_matrix(self):
        linearization, h, multiplier, normal = self.linearize()
        operator = linearization.operator(lambda: h)
        columns = [operator.matvec(e.expand(4, 3)) for e in torch.eye(3, dtype=torch.float64)]
        dense = operator.dense()
        torch.testing.assert_close(torch.stack(columns, dim=-1), dense)
        torch.testing.assert_close(operator.preconditioner(), dense)
        torch.testing.assert_close(dense[3], h[3])
        smallest = torch.linalg.eigvalsh(dense)[:, 0]
        floor = torch.linalg.eigvalsh(h)[:, 0] + multiplier
        assert (smallest >= floor - 1e-12).all()
        along = torch.einsum("bi,bij,bj->b", normal, dense, normal)
        assert (along[:3] >= floor[:3]).all()
        assert linearization.operator().preconditioner is None


def test_weak_activity_is_flagged():
    """The free minimiser exactly on the sphere, next to examples that are clearly held or free."""
    h, c, anchor, _ = (t.detach() for t in quadratic_inputs())
    distance = vector_norm(torch.linalg.solve(h, c) - anchor, dim=-1)
    for share, expected in (
        ([1.0, 0.9, 1.1, 1.0], [True, False, False, True]),
        ([1.0 - 1e-10, 1.0 + 1e-10, 1.0 - 1e-5, 1.0 + 1e-5], [True, True, False, False]),
    ):
        problem = quadratic_region(h, c, anchor, distance * h.new_tensor(share))
        solution = savi.minimize(problem, anchor, gradient=StopGradient(), **EXACT)
        assert problem.linearize(solution.value).degenerate.tolist() == expected
    assert problem.base.linearize(anchor).degenerate is None


def test_a_negative_curvature_that_the_sphere_holds_is_differentiated():
    """J is concave: only K, not H, is positive definite."""
    inputs = [t.detach() for t in quadratic_inputs()]
    inputs[0] = -inputs[0]
    inputs, w = [t.requires_grad_() for t in inputs], randn(4, 3, seed=3)
    value, multiplier = reference(*inputs)
    assert (multiplier > 0).all()
    gradient = Implicit(on_failure="raise")
    solution = savi.minimize(
        quadratic_region(*inputs), inputs[2], optimizer=GradientDescent(0.1), gradient=gradient,
        max_steps=2000, rtol=1e-12,
    )  # fmt: skip
    torch.testing.assert_close(solution.value, value)
    _, *others = gradients(solution.value, inputs, w)
    torch.testing.assert_close(others, differences(inputs, w)[1:], rtol=1e-6, atol=1e-6)


def test_a_saddle_on_the_sphere_is_reported():
    """J = −y₁² − 2y₂² at (1, 0): stationary along the circle, and lower on either side."""
    theta = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    anchor = torch.zeros(1, 2, dtype=torch.float64)
    base = AutogradObjective(lambda y: -(theta * y.square()).sum(-1))
    y = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    solution = savi.minimize(
        TrustRegion(base, anchor, 1.0), y, optimizer=GradientDescent(), gradient=Implicit(),
        max_steps=0,
    )  # fmt: skip
    assert solution.multiplier.item() == 2.0
    with pytest.warns(ImplicitGradientWarning, match="not positive definite"):
        solution.value.sum().backward()


def test_one_variable_is_held_at_the_end_of_its_interval():
    """λ* = λ0 ± r whatever J is."""
    theta = torch.tensor([[3.0], [-3.0], [0.1]], dtype=torch.float64, requires_grad=True)
    anchor, radius = torch.zeros_like(theta).requires_grad_(), torch.ones(3).double()
    radius.requires_grad_()
    problem = TrustRegion(AutogradObjective(lambda y: (y - theta).square().sum(-1)), anchor, radius)
    for gradient in (Implicit(), CG, Unrolled()):
        solution = savi.minimize(problem, anchor, gradient=gradient, **EXACT)
        torch.testing.assert_close(solution.value[:, 0], theta.new_tensor([1.0, -1.0, 0.1]))
        results = gradients(solution.value, (theta, anchor, radius), torch.ones_like(theta))
        expected = ([[0.0], [0.0], [1.0]], [[1.0], [1.0], [0.0]], [1.0, -1.0, 0.0])
        for result, number in zip(results, expected, strict=True):
            torch.testing.assert_close(result, theta.new_tensor(number))


def test_the_gauss_newton_matrix_preconditions_the_reduced_system():
    h, c, anchor, _ = (t.detach() for t in quadratic_inputs(batch=3, size=8))
    scale = torch.logspace(0, 2, 8, dtype=torch.float64)
    h = scale.unsqueeze(-1) * h * scale
    radius = 0.9 * vector_norm(torch.linalg.solve(h, c) - anchor, dim=-1)
    c = c.requires_grad_()

    class WithCurvature(InnerObjective):
        gauss_newton = True

        def __call__(self, y):
            return 0.5 * torch.einsum("bi,bij,bj->b", y, h, y) - (c * y).sum(-1)

        def curvature(self, y, create_graph=False):
            return 1.01 * h

    plain = AutogradObjective(WithCurvature())
    results, steps = [], []
    for base in (WithCurvature(), plain):
        solution = savi.minimize(
            TrustRegion(base, anchor, radius), anchor,
            gradient=Implicit("cg", rtol=1e-11, max_steps=200), **EXACT,
        )  # fmt: skip
        assert (solution.multiplier > 0).all()
        results.append(gradients(solution.value, (c,), randn(3, 8, seed=2))[0])
        steps.append(int(solution.certificate.linear_steps.max()))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-8)
    assert steps[0] < steps[1]


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian"])
def test_the_encoder_of_a_vae_is_told_where_the_constraint_is_active(name):
    torch.manual_seed(0)
    problem = linear_gaussian()
    init = start(problem, name).requires_grad_()
    base = objective_of(problem.model, problem.x, name)
    radius = init.new_tensor([0.2, 0.5, 1.0, 50.0, 0.1])
    results = []
    for gradient in (Implicit(), Unrolled()):
        solution = savi.minimize(TrustRegion(base, init, radius), init, gradient=gradient, **EXACT)
        assert (solution.multiplier > 0).tolist() == [True, True, True, False, True]
        bound = base(solution.value).sum()
        weight = problem.model.decoder.head.weight
        results.append(torch.autograd.grad(bound, (init, weight)))
    torch.testing.assert_close(*results, rtol=1e-7, atol=1e-7)
    by_init = results[0][0]
    assert (by_init[3] == 0).all()
    # φ = J: by the envelope theorem, ∂φ/∂λ0 = ∂/∂λ0 ν(½‖λ* − λ0‖² − ½r²) = −ν(λ* − λ0).
    expected = -solution.multiplier.unsqueeze(-1) * (solution.value - init)
    torch.testing.assert_close(by_init, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("backend", [Checkpointed(), Truncated(100), FiniteDifference()])
@pytest.mark.parametrize("steps", [0, 1, 6])
def test_a_start_outside_of_the_ball_is_differentiated_through_its_projection(backend, steps):
    h, c = spd(2, 3), randn(2, 3, seed=1).requires_grad_()
    anchor, init = randn(2, 3, seed=2).requires_grad_(), randn(2, 3, seed=3).requires_grad_()
    radius = torch.tensor([0.3, 0.4], dtype=torch.float64, requires_grad=True)
    inputs, w = (c, anchor, init, radius), randn(2, 3, seed=4)

    def pulled(gradient):
        problem = TrustRegion(AutogradObjective(Quadratic(h, c)), anchor, radius)
        value = savi.minimize(
            problem, init, gradient=gradient, optimizer=Momentum(0.1), max_steps=steps, rtol=0.0
        ).value
        return [value, *gradients(value, inputs, w)]

    torch.testing.assert_close(pulled(backend), pulled(Unrolled()), rtol=1e-7, atol=1e-8)


def test_a_constraint_within_a_constraint_is_refused():
    inner = TrustRegion(AutogradObjective(lambda y: y.sum(-1)), torch.zeros(1, 1), 1.0)
    for outer in (TrustRegion, Proximal):
        with pytest.raises(savi.InputError, match="whose constraint would be lost"):
            outer(inner, torch.zeros(1, 1), 1.0)
