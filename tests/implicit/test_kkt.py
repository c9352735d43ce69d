import numpy as np
import pytest
import torch
from scipy import optimize
from torch.autograd import gradcheck, gradgradcheck

from savi.errors import InputError
from savi.implicit import Problem, kkt
from savi.implicit.reporter import ImplicitGradientError, ImplicitGradientWarning


def entropy(x, theta):
    return (x * x.log()).sum(-1) - (x * theta).sum(-1)


def sums_to_one(x, theta):
    return x.sum(-1, keepdim=True) - 1.0


def distance(x, theta):
    return 0.5 * (x - theta).square().sum(-1)


SOFTMAX = Problem(entropy, equalities=sums_to_one)
ONTO_ORTHANT = Problem(distance, inequalities=lambda x, theta: -x)
ONTO_BALL = Problem(distance, inequalities=lambda x, theta: x.square().sum(-1, keepdim=True) - 1.0)


def theta_of(*rows):
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


def onto_ball(theta):
    return theta / torch.linalg.vector_norm(theta, dim=-1, keepdim=True).clamp_min(1.0)


def test_equalities_in_both_modes_and_to_second_order():
    torch.manual_seed(0)
    theta = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def solution(theta):
        return kkt(SOFTMAX, theta.softmax(-1), theta).value

    assert gradcheck(solution, theta, check_forward_ad=True)
    assert gradgradcheck(solution, theta, check_fwd_over_rev=True)


def test_curved_inequalities_active_and_not_to_second_order():
    theta = theta_of([2.0, 1.0, -1.0], [0.1, 0.2, -0.3])
    solved = kkt(ONTO_BALL, onto_ball(theta), theta)
    assert solved.active.flatten().tolist() == [True, False]
    assert not solved.certificate.failed.any()
    # x − θ + 2 v x = 0 on the sphere: v = (‖θ‖ − 1) / 2.
    expected = [(6.0**0.5 - 1.0) / 2.0, 0.0]
    torch.testing.assert_close(solved.inequality_multipliers.flatten().tolist(), expected)
    # Along the sphere the Lagrangian bends by 1 + 2v = ‖θ‖; inside, f alone by 1.
    torch.testing.assert_close(solved.certificate.min_curvature.tolist(), [6.0**0.5, 1.0])

    def solution(theta):
        return kkt(ONTO_BALL, onto_ball(theta), theta).value

    assert gradcheck(solution, theta, check_forward_ad=True)
    assert gradgradcheck(solution, theta)


def test_the_multipliers_have_derivatives_too():
    theta = theta_of([2.0, 1.0, -1.0])

    def multiplier(theta):
        return kkt(ONTO_BALL, onto_ball(theta), theta).inequality_multipliers

    assert gradcheck(multiplier, theta, check_forward_ad=True)

    def height(theta):
        return kkt(SOFTMAX, theta.softmax(-1), theta).equality_multipliers

    # −θ + log x + 1 + u = 0 gives u = logsumexp(θ) − 1.
    torch.testing.assert_close(height(theta)[:, 0], theta.logsumexp(-1) - 1.0)
    (gradient,) = torch.autograd.grad(height(theta).sum(), theta)
    torch.testing.assert_close(gradient, theta.detach().softmax(-1))


def test_a_quadratic_problem_has_its_closed_form():
    """[Q Aᵀ; A 0] [x; u] = [−q; b], differentiated in all four."""
    torch.manual_seed(0)
    root = torch.randn(3, 4, 4, dtype=torch.float64)
    Q = root @ root.mT + torch.eye(4, dtype=torch.float64)
    q, A, b = (torch.randn(3, *shape, dtype=torch.float64) for shape in ((4,), (2, 4), (2,)))
    params = [t.requires_grad_() for t in (Q, q, A, b)]

    def exact(Q, q, A, b):
        zero = torch.zeros(3, 2, 2, dtype=torch.float64)
        left = torch.cat([torch.cat([Q, A.mT], -1), torch.cat([A, zero], -1)], -2)
        return torch.linalg.solve(left, torch.cat([-q, b], -1).unsqueeze(-1))[:, :4, 0]

    problem = Problem(
        lambda x, Q, q, A, b: 0.5 * torch.einsum("bi,bij,bj->b", x, Q, x) + (q * x).sum(-1),
        equalities=lambda x, Q, q, A, b: torch.einsum("bmi,bi->bm", A, x) - b,
    )
    x = exact(*params)
    value = kkt(problem, x, *params).value
    cotangent = torch.randn_like(x)
    expected = torch.autograd.grad((x * cotangent).sum(), params)
    found = torch.autograd.grad((value * cotangent).sum(), params)
    # xᵀQx knows the symmetric part of Q alone.
    expected = (0.5 * (expected[0] + expected[0].mT), *expected[1:])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_nonlinear_problem_that_scipy_solves_against_finite_differences():
    def solve(theta):
        t1, t2 = theta
        result = optimize.minimize(
            lambda x: np.exp(x[0]) + (x[1] - t1) ** 2 + (x[0] - x[2]) ** 4 + x[2] ** 2,
            np.zeros(3),
            method="SLSQP",
            constraints=[
                {"type": "eq", "fun": lambda x: x[0] * x[2] + x[1] - t2},
                {"type": "ineq", "fun": lambda x: 0.4 - x[1] ** 2 - x[2]},
            ],
            options={"ftol": 1e-15, "maxiter": 500},
        )
        return result.x

    problem = Problem(
        lambda x, t: (
            x[:, 0].exp() + (x[:, 1] - t[0]) ** 2 + (x[:, 0] - x[:, 2]) ** 4 + x[:, 2] ** 2
        ),
        equalities=lambda x, t: (x[:, 0] * x[:, 2] + x[:, 1] - t[1]).unsqueeze(-1),
        inequalities=lambda x, t: (x[:, 1] ** 2 + x[:, 2] - 0.4).unsqueeze(-1),
    )
    theta = theta_of(1.5, 0.7)
    point = torch.as_tensor(solve(theta.tolist())).unsqueeze(0)
    solution = kkt(problem, point, theta, tolerance=1e-5)
    assert solution.active.all()
    assert not solution.certificate.failed.any()
    jacobian = torch.stack(
        [torch.autograd.grad(solution.value[0, i], theta, retain_graph=True)[0] for i in range(3)]
    )
    h = 1e-3
    differences = [
        (
            solve([1.5 + h * (i == 0), 0.7 + h * (i == 1)])
            - solve([1.5 - h * (i == 0), 0.7 - h * (i == 1)])
        )
        / (2 * h)
        for i in range(2)
    ]
    torch.testing.assert_close(
        jacobian, torch.as_tensor(np.stack(differences, axis=-1)), rtol=1e-4, atol=1e-4
    )


def test_each_example_has_its_own_active_set():
    theta = theta_of([1.0, -2.0, 0.5], [-1.0, -1.0, -1.0], [1.0, 2.0, 3.0])
    solution = kkt(ONTO_ORTHANT, theta.clamp_min(0.0), theta)
    assert (solution.active == (theta < 0)).all()
    torch.testing.assert_close(solution.inequality_multipliers, (-theta).clamp_min(0.0))
    (gradient,) = torch.autograd.grad(solution.value.sum(), theta)
    assert (gradient == (theta > 0)).all()
    # Where the constraints leave no direction, no curvature is needed.
    assert solution.certificate.min_curvature.tolist() == [1.0, torch.inf, 1.0]
    for row in range(3):
        alone = kkt(ONTO_ORTHANT, theta[row : row + 1].clamp_min(0.0), theta[row : row + 1])
        assert (alone.active[0] == solution.active[row]).all()
        torch.testing.assert_close(
            alone.certificate.condition[0], solution.certificate.condition[row]
        )


@pytest.mark.parametrize("gap", [0.0, 1e-9, -1e-9])
def test_strict_complementarity_is_checked(gap):
    theta = theta_of([1.0, gap], [1.0, 0.5])
    with pytest.warns(ImplicitGradientWarning, match="multiplier of 0, where the solution has a"):
        certificate = kkt(ONTO_ORTHANT, theta.detach().clamp_min(0.0), theta).certificate
    assert certificate.degenerate.tolist() == [True, False]
    assert certificate.failed.tolist() == [True, False]


def test_feasibility_is_checked():
    theta = theta_of([1.0, -1.0], [1.0, -1.0])
    point = torch.tensor([[1.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    with pytest.warns(ImplicitGradientWarning, match="a constraint does not hold"):
        assert kkt(ONTO_ORTHANT, point, theta).certificate.failed.tolist() == [True, False]
    on_plane = Problem(distance, equalities=sums_to_one)
    with pytest.warns(ImplicitGradientWarning, match="a constraint does not hold"):
        assert kkt(on_plane, 3.0 * point, theta).certificate.failed.tolist() == [True, True]


def test_a_maximum_and_a_saddle_are_no_minimum():
    theta = theta_of([0.3, -0.2])
    with pytest.warns(ImplicitGradientWarning, match="no strict minimum"):
        certificate = kkt(Problem(lambda x, t: -distance(x, t)), theta.detach(), theta).certificate
    assert certificate.min_curvature.item() == -1.0
    saddle = Problem(lambda x, t: x[:, 0] ** 2 - x[:, 1] ** 2)
    with pytest.warns(ImplicitGradientWarning, match="no strict minimum"):
        kkt(saddle, torch.zeros(1, 2, dtype=torch.float64), theta)
    # A constraint that takes the falling direction away makes it one.
    held = Problem(saddle.objective, equalities=lambda x, t: x[:, 1:] - t[:, 1:])
    solution = kkt(held, torch.tensor([[0.0, -0.2]], dtype=torch.float64), theta)
    assert not solution.certificate.failed.any()
    assert solution.certificate.min_curvature.item() == 2.0


def test_a_constraint_that_pushes_the_wrong_way_is_no_solution():
    theta = theta_of([1.0, 2.0])
    with pytest.warns(ImplicitGradientWarning, match="does not solve"):
        kkt(ONTO_ORTHANT, torch.zeros(1, 2, dtype=torch.float64), theta)


def test_dependent_constraints_are_singular():
    twice = Problem(distance, equalities=lambda x, t: sums_to_one(x, t).expand(-1, 2))
    theta = theta_of([0.3, -0.2])
    point = theta.detach() + 0.45
    with pytest.warns(ImplicitGradientWarning, match="singular"):
        assert kkt(twice, point, theta).certificate.failed.all()


def test_raise_and_mask():
    theta = theta_of([1.0, 0.0], [1.0, 0.5])
    point = theta.detach().clone()
    with pytest.raises(ImplicitGradientError, match=r"multiplier of 0.*\(1 examples\)"):
        kkt(ONTO_ORTHANT, point, theta, on_failure="raise")
    value = kkt(ONTO_ORTHANT, point, theta, on_failure="mask").value
    (gradient,) = torch.autograd.grad(value.sum(), theta)
    assert gradient.tolist() == [[0.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    "theta",
    [[0.8e-8, -0.3e-8], [1e7, 1.0], [-1e7, -1.0], [1e7, -1.0]],
    ids=["small", "mixed", "at 0", "mixed signs"],
)
def test_the_units_of_the_problem_do_not_matter(theta):
    theta = theta_of(theta)
    solution = kkt(ONTO_ORTHANT, theta.detach().clamp_min(0.0), theta)
    assert not solution.certificate.failed.any()
    (gradient,) = torch.autograd.grad(solution.value.sum(), theta)
    assert (gradient == (theta > 0)).all()


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_nor_do_those_of_the_objective(scale):
    theta = theta_of([0.8, -0.3])
    scaled = Problem(lambda x, t: scale * distance(x, t), inequalities=lambda x, t: -x)
    solution = kkt(scaled, theta.detach().clamp_min(0.0), theta)
    assert not solution.certificate.failed.any()
    (gradient,) = torch.autograd.grad(solution.value.sum(), theta)
    torch.testing.assert_close(gradient.tolist(), [[1.0, 0.0]])


def test_a_small_coordinate_that_is_not_solved_is_told():
    """min ½(x₀ − t₀)² + ½(a x₁ − t₁)² at an x₁ of 0, beside an x₀ of 1e7."""
    t, a = theta_of([1e7, 1.0]), theta_of(2.0)
    problem = Problem(
        lambda x, t, a: 0.5 * (x[:, 0] - t[:, 0]) ** 2 + 0.5 * (a * x[:, 1] - t[:, 1]) ** 2
    )
    with pytest.warns(ImplicitGradientWarning):
        kkt(problem, torch.tensor([[1e7, 0.0]], dtype=torch.float64), t, a)
    good = kkt(problem, torch.tensor([[1e7, 0.5]], dtype=torch.float64), t, a)
    assert not good.certificate.failed.any()


def test_a_rough_solution_needs_a_tolerance():
    theta = theta_of([1.0, -1.0])
    rough = torch.tensor([[1.0 + 1e-4, 1e-4]], dtype=torch.float64)
    with pytest.warns(ImplicitGradientWarning):
        kkt(ONTO_ORTHANT, rough, theta)
    solution = kkt(ONTO_ORTHANT, rough, theta, tolerance=0.02)
    (gradient,) = torch.autograd.grad(solution.value.sum(), theta)
    assert gradient.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: kkt(Problem(lambda x: x), t), "objective returned shape"),
        (
            lambda t: kkt(Problem(lambda x: x.sum(-1), equalities=lambda x: x.sum(-1)), t),
            "equalities returned shape",
        ),
        (lambda t: kkt(Problem(lambda x: 1.0), t), "objective returned float"),
        (lambda t: kkt(ONTO_ORTHANT, t[0], t), "one row per example"),
        (lambda t: kkt(ONTO_ORTHANT, t, t, tolerance=0.0), "tolerance is 0.0"),
        (lambda t: kkt(ONTO_ORTHANT, t, t, on_failure="mend"), "mask, raise, warn"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.ones(1, 2))
