"""The error bound where it is measured: what a step to the solution changes of the θ at hand."""

import warnings

import pytest
import torch

import savi
from savi.gradients import Implicit, ImplicitGradientWarning
from savi.inner import GradientDescent

SOLVERS = ["cholesky", "cg"]


def solved(objective, init, solver, steps):
    return savi.minimize(
        objective,
        init,
        optimizer=GradientDescent(0.3),
        gradient=Implicit(solver),
        max_steps=steps,
        rtol=0.0,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_gradient_that_the_way_left_hardly_changes_is_not_called_inaccurate(solver, dtype):
    """θᵀy acts alike everywhere, and the Hessian bends little: λK may be off by 2 %."""
    theta = torch.tensor([0.5, -1.0], dtype=dtype, requires_grad=True)

    def objective(y):
        return (0.5 * y.square() + 0.02 * y.pow(4) - theta * y).sum(dim=-1)

    solution = solved(objective, torch.zeros(1, 2, dtype=dtype), solver, steps=11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (g,) = torch.autograd.grad(solution.value.sum(), theta)
    end = solved(objective, torch.zeros(1, 2, dtype=dtype), solver, 300)
    (exact,) = torch.autograd.grad(end.value.sum(), theta)
    off = (g - exact).norm() / exact.norm()
    assert off < solution.certificate.error_bound < 1e-2
    assert solution.stationarity > 5e-3


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(400, 2), (400,)], ids=str)
def test_an_example_with_a_parameter_of_its_own_is_judged_by_itself(shape, solver):
    """One of 400 is far from its solution, which the norm of all gradients would hide."""
    c = torch.full(shape, 0.5, dtype=torch.float64, requires_grad=True)

    def objective(y):
        return (0.5 * (y - c.view(400, -1)).square() + 0.5 * y.pow(4)).sum(dim=-1)

    start = torch.zeros(400, 2, dtype=torch.float64)
    with torch.no_grad():
        init = solved(objective, start, solver, steps=100).value + 1e-4
    init[7] += 0.5
    solution = solved(objective, init, solver, steps=2)
    with pytest.warns(ImplicitGradientWarning, match=r"max_error .* \[1 of 400 examples"):
        torch.autograd.grad(solution.value.square().sum(), c)
    assert solution.certificate.inaccurate.nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_shared_parameter_with_as_many_entries_as_examples_is_judged_as_a_whole(solver):
    """One entry's gradient is small beside the others', and its relative error is no matter."""
    theta = torch.tensor([1.0, 0.5, 1e-3], dtype=torch.float64, requires_grad=True)

    def objective(y):
        r = y - 1.0
        pulled = (theta * torch.stack([y, y.square(), y.pow(2) - y], dim=-1)).sum(dim=-1)
        return (r.square() + 0.01 * r.pow(4) - 0.1 * pulled).sum(dim=-1)

    solution = solved(objective, torch.full((3, 1), 0.2, dtype=torch.float64), solver, steps=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.autograd.grad(solution.value.sum(), theta)
    assert (solution.certificate.error_bound < 1e-2).all()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("weight", [1.0, 1e-3])
def test_the_bound_holds_for_all_stages_of_a_solve(solver, weight):
    """A stiff direction and a soft one, of which θ moves one more than the other."""
    theta = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def objective(y):
        stiff, soft = y[:, 0] - 0.7 * y[:, 1], y[:, 1] - 1.0
        bowl = stiff.square() + 0.25 * stiff.pow(4) + 0.2 * (soft.square() + 0.3 * soft.pow(4))
        return bowl + theta * (y[:, 0].sin() + weight * y[:, 1])

    def gradient(steps):
        init = torch.zeros(1, 2, dtype=torch.float64)
        solution = solved(objective, init, solver, steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImplicitGradientWarning)
            (g,) = torch.autograd.grad(solution.value.sum(), theta)
        return float(g), solution.certificate

    exact, _ = gradient(3000)
    for steps in range(4, 60, 4):
        found, certificate = gradient(steps)
        error = abs(found / exact - 1.0)
        assert certificate.failed.all() or error <= float(certificate.error_bound), steps


@pytest.mark.parametrize("shape", [(0,), (2, 0)])
def test_a_tensor_without_entries_has_no_error(shape):
    theta = torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)
    empty = torch.zeros(shape, dtype=torch.float64, requires_grad=True)

    def objective(y, *others):
        slope = theta + sum(other.sum(dim=-1, keepdim=True) for other in others)
        return (0.5 * y.square() + 0.02 * y.pow(4) - slope * y).sum(dim=-1)

    bounds = []
    for others in ((), (empty,)):
        solution = solved(
            lambda y, others=others: objective(y, *others), torch.zeros(2, 2).double(), "cg", 11
        )
        solution.value.sum().backward()
        bounds.append(solution.certificate.error_bound)
    assert (bounds[0] > 0).all()
    torch.testing.assert_close(*bounds)
