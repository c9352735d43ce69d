"""Backends against closed forms at a fixed number of steps, and against each other."""

import itertools

import pytest
import torch
from closed_forms import gradient_steps, gradient_steps_jacobian
from inner_problems import Nonlinear, Quadratic, gradients, nonlinear_inputs, randn, spd

import savi
from savi.gradients import (
    Checkpointed,
    FiniteDifference,
    Implicit,
    OneStep,
    Reversible,
    Truncated,
    Unrolled,
)
from savi.inner import (
    Adam,
    AutogradObjective,
    GaussNewton,
    GradientDescent,
    LevenbergMarquardt,
    Momentum,
)
from savi.inner.anchored import Proximal

SOLVED = {"optimizer": LevenbergMarquardt(), "max_steps": 60, "rtol": 1e-11}


def test_unrolled_gradient_steps_have_their_closed_form():
    hessian, lr, steps = spd(3, 4, ceiling=6.0), 0.3, 7
    c, init = randn(3, 4, seed=1).requires_grad_(), randn(3, 4, seed=2).requires_grad_()
    problem, w = Quadratic(hessian, c), randn(3, 4, seed=3)
    value = savi.minimize(
        problem, init, optimizer=GradientDescent(lr), gradient=Unrolled(), max_steps=steps, rtol=0.0
    ).value
    expected = gradient_steps(init, problem.minimiser, hessian, lr, steps)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    by_init, by_c = gradients(value, (init, c), w)
    contraction = gradient_steps_jacobian(hessian, lr, steps)
    pulled = (contraction @ w.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(by_init, pulled, rtol=1e-10, atol=1e-10)
    by_c_expected = torch.linalg.solve(hessian, w - pulled)
    torch.testing.assert_close(by_c, by_c_expected, rtol=1e-10, atol=1e-10)


def test_unrolled_tends_to_implicit_as_steps_grow():
    mixing, c, init = nonlinear_inputs()
    w = randn(*init.shape, seed=5)
    solution = savi.minimize(Nonlinear(mixing, c), init, gradient=Implicit(), **SOLVED)
    exact = gradients(solution.value, (mixing, c, init), w)
    errors = []
    for steps in (5, 10, 20, 40):
        value = savi.minimize(
            Nonlinear(mixing, c),
            init,
            optimizer=GradientDescent(0.3),
            gradient=Unrolled(),
            max_steps=steps,
            rtol=0.0,
        ).value
        unrolled = gradients(value, (mixing, c, init), w)
        errors.append(max(float((a - b).abs().max()) for a, b in zip(unrolled, exact, strict=True)))
    assert all(after < 0.5 * before for before, after in itertools.pairwise(errors))
    assert errors[-1] < 1e-4 * errors[0]


OPTIMIZERS = [
    GradientDescent(0.2), Momentum(0.1), Adam(0.1), LevenbergMarquardt(), GaussNewton(),
    GaussNewton(decay=False),
]  # fmt: skip
LIKE_UNROLLED = [
    (Checkpointed(), 1e-12),
    (Checkpointed("step"), 1e-12),
    (Checkpointed(5), 1e-12),
    (Checkpointed(100), 1e-12),
    (Truncated(12), 1e-12),
    (Reversible(), 1e-10),
    (FiniteDifference(), 1e-8),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.name)
@pytest.mark.parametrize(("backend", "tolerance"), LIKE_UNROLLED)
@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("rtol", [0.0, 0.05])
def test_backends_that_equal_unrolled(backend, tolerance, optimizer, anchored, rtol):
    """Also where examples stop at different steps, and with an objective that depends on λ0."""
    if not backend.differentiates(type(optimizer)):
        pytest.skip("not supported")
    if isinstance(backend, Reversible) and optimizer.momentum == 0.0:
        pytest.skip("not supported")
    mixing, c, init = nonlinear_inputs()
    w = randn(*init.shape, seed=5)

    def solve(gradient):
        problem = AutogradObjective(Nonlinear(mixing, c))
        if anchored:
            problem = Proximal(problem, init, 0.7)
        solution = savi.minimize(
            problem, init, optimizer=optimizer, gradient=gradient, max_steps=12, rtol=rtol
        )
        return [solution.value, *gradients(solution.value, (mixing, c, init), w)]

    torch.testing.assert_close(solve(backend), solve(Unrolled()), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("truncation", [1, 3])
def test_truncated_gradient_steps_have_their_closed_form(truncation):
    """∂λK/∂c = Σ_{j<T} (I − αH)ʲ α, whatever came before."""
    hessian, lr = spd(3, 4, ceiling=9.0), 0.2
    c, init = randn(3, 4, seed=1).requires_grad_(), randn(3, 4, seed=2).requires_grad_()
    w = randn(3, 4, seed=3)
    value = savi.minimize(
        Quadratic(hessian, c),
        init,
        optimizer=GradientDescent(lr),
        gradient=Truncated(truncation),
        max_steps=9,
        rtol=0.0,
    ).value
    by_c, by_init = gradients(value, (c, init), w)
    powers = [lr * gradient_steps_jacobian(hessian, lr, j) for j in range(truncation)]
    expected = (sum(powers) @ w.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(by_c, expected, rtol=1e-10, atol=1e-10)
    assert (by_init == 0).all()


@pytest.mark.drawn
def test_each_example_is_truncated_at_its_own_end():
    """Easy examples stop early; their last steps are theirs, not those of the batch."""
    hessian = torch.stack([torch.eye(2), 0.05 * torch.eye(2)]).double()
    c, init = randn(2, 2, seed=1).requires_grad_(), randn(2, 2, seed=2).requires_grad_()

    def solve(rows, gradient):
        inputs = (c.detach()[rows].requires_grad_(), init.detach()[rows].requires_grad_())
        solution = savi.minimize(
            Quadratic(hessian[rows], inputs[0]),
            inputs[1],
            optimizer=Adam(0.2),
            gradient=gradient,
            max_steps=40,
            rtol=0.2,
        )
        return solution.steps, gradients(solution.value, inputs, torch.ones_like(inputs[0]))

    steps, together = solve([0, 1], Truncated(3))
    assert 3 < steps[0] < steps[1] - 3
    for b in range(2):
        for alone, both in zip(solve([b], Truncated(3))[1], together, strict=True):
            torch.testing.assert_close(alone[0], both[b], rtol=1e-12, atol=0)
    assert all((g != 0).any() for g in solve([0, 1], Unrolled())[1])


def test_one_gradient_step_has_its_closed_form():
    """∂λ/∂c = α: off by the contraction factor I − αH."""
    hessian, lr = spd(3, 4, ceiling=9.0), 0.2
    c, init = randn(3, 4, seed=1).requires_grad_(), randn(3, 4, seed=2).requires_grad_()
    w = randn(3, 4, seed=3)
    for optimizer in (GradientDescent(lr), Momentum(lr)):
        options = {"optimizer": optimizer, "gradient": OneStep(), "max_steps": 300, "rtol": 1e-11}
        value = savi.minimize(Quadratic(hessian, c), init, **options).value
        by_c, by_init = gradients(value, (c, init), w)
        torch.testing.assert_close(by_c, lr * w, rtol=1e-10, atol=1e-10)
        assert (by_init == 0).all()


def test_one_newton_step_equals_the_theorem_at_a_solution():
    mixing, c, init = nonlinear_inputs()
    w = randn(*init.shape, seed=5)
    one, exact = (
        gradients(
            savi.minimize(Nonlinear(mixing, c), init, gradient=gradient, **SOLVED).value,
            (mixing, c),
            w,
        )
        for gradient in (OneStep(), Implicit())
    )
    torch.testing.assert_close(one, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1e-3, 0.0), (1e4, 0.0), (1.0, 100.0)])
def test_differences_do_not_depend_on_the_unit_of_the_variables(scale, offset, dtype):
    mixing, c, init = (t.detach().to(dtype) for t in nonlinear_inputs())
    c.requires_grad_()
    base, w = Nonlinear(mixing, c), randn(*init.shape, seed=5, dtype=dtype)

    def pulled(gradient):
        value = savi.minimize(
            lambda y: base((y - offset) / scale), scale * init + offset, gradient=gradient,
            optimizer=GradientDescent(0.2 * scale**2), max_steps=8, rtol=0.0,
        ).value  # fmt: skip
        return gradients(value, (c,), w)[0] / scale

    tolerance = 1e-6 if dtype is torch.float64 else 1e-2
    torch.testing.assert_close(
        pulled(FiniteDifference()), pulled(Unrolled()), rtol=tolerance, atol=tolerance
    )


@pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")
def test_a_cotangent_that_is_not_finite_stays_with_its_example():
    c = randn(3, 2, seed=1).requires_grad_()
    w = randn(3, 2, seed=2)
    bad = w.clone()
    bad[1] = torch.nan

    def pulled(gradient, cotangent):
        value = savi.minimize(
            Quadratic(spd(3, 2), c), torch.zeros_like(c), gradient=gradient,
            optimizer=GradientDescent(0.2), max_steps=5, rtol=0.0,
        ).value  # fmt: skip
        return gradients(value, (c,), cotangent)[0]

    for backend in (FiniteDifference(), Checkpointed(), Implicit(max_error=1e9), Unrolled()):
        result, expected = pulled(backend, bad), pulled(backend, w)
        torch.testing.assert_close(result[[0, 2]], expected[[0, 2]])
        assert result[1].isnan().all()


def test_differences_need_no_second_derivative_of_the_objective():
    """Fused attention has none on the CPU; its plain form is the reference."""
    weight = randn(4, 4, seed=1, dtype=torch.float32).requires_grad_()

    def objective(y):
        q = (y @ weight).view(-1, 1, 2, 2)
        attended = torch.nn.functional.scaled_dot_product_attention(q, q, q)
        return attended.square().sum((1, 2, 3)) + 0.5 * (y - 1.0).square().sum(-1)

    def pulled(gradient):
        value = savi.minimize(
            objective, torch.zeros(3, 4), gradient=gradient, optimizer=GradientDescent(0.05),
            max_steps=5, rtol=0.0,
        ).value  # fmt: skip
        return torch.autograd.grad(value.sum(), weight)[0]

    with pytest.raises(RuntimeError, match="is not implemented"):
        pulled(Unrolled())
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = pulled(Unrolled())
    torch.testing.assert_close(pulled(FiniteDifference()), expected, rtol=1e-3, atol=1e-3)
