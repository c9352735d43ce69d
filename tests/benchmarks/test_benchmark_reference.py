"""The minimiser and the derivative by which benchmarks judge."""

import pytest
import torch
from benchmarks.reference import gradient, hessian, implicit_gradient, minimiser
from inner_problems import randn, spd


def double_well(y, theta):
    return (0.25 * y.pow(4) - 0.5 * y.square() - theta * y).sum(-1)


def test_a_quadratic_has_its_closed_form():
    matrix, theta, w = spd(1, 3)[0], randn(3, seed=1), randn(1, 3, seed=2)

    def energy(y, theta):
        return 0.5 * ((y @ matrix) * y).sum(-1) - y @ theta

    solution = minimiser(energy, theta, randn(1, 3, seed=3))
    torch.testing.assert_close(solution[0], torch.linalg.solve(matrix, theta))
    torch.testing.assert_close(hessian(energy, solution, theta), matrix)
    torch.testing.assert_close(
        implicit_gradient(energy, theta, solution, w), torch.linalg.solve(matrix, w[0])
    )


def test_the_gradient_vanishes_at_the_minimiser():
    theta = torch.tensor([0.1, -0.3], dtype=torch.float64)
    solution = minimiser(double_well, theta, torch.tensor([[5.0, -0.2]], dtype=torch.float64))
    assert gradient(double_well, solution, theta).norm() < 1e-14


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_saddle_is_left_on_the_side_of_the_start(side):
    start = torch.tensor([[1e-6 * side]], dtype=torch.float64)
    solution = minimiser(double_well, torch.zeros(1, dtype=torch.float64), start)
    torch.testing.assert_close(solution, torch.tensor([[side]], dtype=torch.float64))


def test_no_minimiser_is_an_error():
    with pytest.raises(RuntimeError, match="was not found"):
        minimiser(lambda y, theta: (-y).exp().sum(-1), torch.zeros(1), torch.zeros(1, 1))
