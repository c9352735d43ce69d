"""Conjugate gradients, plain and with the Gauss–Newton preconditioner."""

import pytest
import torch
from inner_problems import randn, spd
from symmetric_operators import operator

from savi.linear import GMRES, ConjugateGradients, LinearStatus, Neumann


def test_takes_at_most_p_steps_in_exact_arithmetic():
    solution = ConjugateGradients(rtol=1e-9)(operator(spd(6, 5)), randn(6, 5, seed=1))
    assert (solution.steps <= 5).all()


@pytest.mark.parametrize("solver", [ConjugateGradients(rtol=1e-9), GMRES(rtol=1e-9)])
def test_exact_preconditioner_takes_one_step(solver):
    matrix = spd(3, 6, floor=1e-3)
    solution = solver(operator(matrix, matrix), randn(3, 6, seed=1))
    assert (solution.steps == 1).all()


@pytest.mark.parametrize("solver", [ConjugateGradients(), GMRES(), Neumann()])
def test_unusable_preconditioner_is_not_used(solver):
    matrix, v = spd(2, 3), randn(2, 3, seed=1)
    broken = torch.stack([-matrix[0], torch.full((3, 3), torch.nan, dtype=torch.float64)])
    with_broken, without = solver(operator(matrix, broken), v), solver(operator(matrix), v)
    assert (without.status == LinearStatus.SOLVED).all()
    assert with_broken.steps.tolist() == without.steps.tolist()
    torch.testing.assert_close(with_broken.value, without.value)
