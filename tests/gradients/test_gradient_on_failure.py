"""What becomes of examples that break a condition of the theorem."""

import warnings

import pytest
import torch
from inner_problems import Nonlinear, Quadratic, gradients, nonlinear_inputs, randn, spd

import savi
from savi.gradients import Implicit, ImplicitGradientError, ImplicitGradientWarning, Unrolled
from savi.implicit.damping import DAMPING, damped
from savi.inner import AutogradObjective, GradientDescent, LevenbergMarquardt
from savi.inner.anchored import Proximal

HALF_SOLVED = {"optimizer": GradientDescent(0.2), "max_steps": 8, "rtol": 1e-12}


def half_solved(gradient, anchored=False):
    """The first example is solved by 8 steps, the second is far from it."""
    hessian = torch.stack([5.0 * torch.eye(2), 0.05 * torch.eye(2)]).double()
    c, init = randn(2, 2, seed=1).requires_grad_(), randn(2, 2, seed=2).requires_grad_()
    problem = AutogradObjective(Quadratic(hessian, c))
    if anchored:
        problem = Proximal(problem, init, 0.01)
    solution = savi.minimize(problem, init, gradient=gradient, **HALF_SOLVED)
    return solution, gradients(solution.value, (c, init), randn(2, 2, seed=3))


@pytest.mark.parametrize("anchored", [False, True])
def test_fallback_unrolls_the_failed_examples_and_only_those(anchored):
    solution, fallback = half_solved(Implicit(on_failure="fallback"), anchored)
    assert solution.certificate.failed.tolist() == [False, True]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplicitGradientWarning)
        implicit = half_solved(Implicit(), anchored)[1]
    unrolled = half_solved(Unrolled(), anchored)[1]
    for fell_back, by_theorem, by_steps in zip(fallback, implicit, unrolled, strict=True):
        torch.testing.assert_close(fell_back[0], by_theorem[0], rtol=1e-12, atol=0)
        torch.testing.assert_close(fell_back[1], by_steps[1], rtol=1e-12, atol=0)
        assert not torch.allclose(by_theorem[1], by_steps[1])


def test_fallback_reaches_shared_parameters_once():
    mixing, c, init = nonlinear_inputs()
    options = {"optimizer": GradientDescent(0.05), "max_steps": 3, "rtol": 0.0}
    results = []
    for gradient in (Implicit(on_failure="fallback"), Unrolled()):
        solution = savi.minimize(Nonlinear(mixing, c), init, gradient=gradient, **options)
        results.append(gradients(solution.value, (mixing, c, init), randn(*init.shape, seed=3)))
        if solution.certificate is not None:
            assert solution.certificate.failed.all()
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)


def test_fallback_costs_nothing_where_nothing_fails():
    """And a second derivative is refused as always."""
    c = randn(3, 2, seed=1).requires_grad_()
    solution = savi.minimize(
        Quadratic(spd(3, 2), c),
        torch.zeros_like(c),
        optimizer=LevenbergMarquardt(),
        gradient=Implicit(on_failure="fallback"),
        rtol=1e-10,
    )
    (g,) = torch.autograd.grad(solution.value.sum(), c, create_graph=True)
    expected = torch.linalg.solve(spd(3, 2), torch.ones_like(c))
    torch.testing.assert_close(g, expected, rtol=1e-10, atol=1e-10)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(g.sum(), c)


def test_mask_drops_the_failed_examples():
    _, (by_c, _) = half_solved(Implicit(on_failure="mask"))
    assert (by_c[0] != 0).all()
    assert (by_c[1] == 0).all()


def test_raise_counts_them():
    with pytest.raises(ImplicitGradientError, match=r"not solved .*\(1 examples\)"):
        half_solved(Implicit(on_failure="raise"))


def test_damping_has_its_closed_form():
    eigenvalues = torch.tensor([[4.0, -1.0], [2.0, 0.0], [3.0, 1.0], [0.0, 0.0]]).double()
    q = torch.linalg.qr(randn(4, 2, 2, seed=0)).Q
    hessian, v = q @ torch.diag_embed(eigenvalues) @ q.mT, randn(4, 2, seed=1)
    failed = torch.tensor([True, True, False, True])
    u = damped(hessian, v, failed)
    for b, shift in ((0, 1.0 + 4.0 * DAMPING), (1, 2.0 * DAMPING)):
        shifted = hessian[b] + shift * torch.eye(2, dtype=torch.float64)
        torch.testing.assert_close(u[b], torch.linalg.solve(shifted, v[b]), rtol=1e-9, atol=1e-9)
    assert (u[2:] == 0).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_damping_answers_a_block_that_is_not_finite_with_zero(bad):
    hessian = spd(2, 2)
    hessian[0, 0, 0] = bad
    u = damped(hessian, torch.ones(2, 2, dtype=torch.float64), torch.tensor([True, True]))
    assert (u[0] == 0).all()
    assert (u[1] > 0).any()


def test_damp_gives_a_descent_direction_at_a_saddle():
    """uᵀHu may be negative there; the damped u always has uᵀv > 0."""
    hessian = torch.diag_embed(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    c = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    v = torch.tensor([[0.1, 1.0]], dtype=torch.float64)
    results = {}
    for policy in ("warn", "damp"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImplicitGradientWarning)
            value = savi.minimize(
                Quadratic(hessian, c), torch.zeros_like(v), optimizer=GradientDescent(),
                gradient=Implicit(on_failure=policy), max_steps=0,
            ).value  # fmt: skip
            (results[policy],) = gradients(value, (c,), v)
    assert (results["warn"] * v).sum() < 0
    assert (results["damp"] * v).sum() > 0
