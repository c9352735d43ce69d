"""Conjugate gradients with the randomised low-rank preconditioner."""

import pytest
import torch
from inner_problems import randn, spd
from symmetric_operators import operator, with_eigenvalues

from savi.errors import InputError
from savi.linear import ConjugateGradients, LinearStatus, Nystrom

FEW_LARGE = torch.cat([torch.linspace(1.0, 2.0, 20), torch.tensor([1e2, 1e3, 1e4, 1e5])])


def test_few_large_eigenvalues_cost_few_steps():
    matrix, v = with_eigenvalues(FEW_LARGE, 5), randn(5, 24, seed=1)
    plain = ConjugateGradients(max_steps=200)(operator(matrix), v)
    sketched = Nystrom(rank=8, max_steps=200)(operator(matrix), v)
    assert (plain.status == LinearStatus.SOLVED).all()
    assert (sketched.status == LinearStatus.SOLVED).all()
    assert (3 * sketched.steps < 2 * plain.steps).all()


def test_full_rank_takes_one_step():
    matrix = with_eigenvalues(FEW_LARGE, 5)
    solution = Nystrom(rank=24)(operator(matrix), randn(5, 24, seed=1))
    assert (solution.steps == 1).all()
    smallest = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(solution.min_curvature, smallest, rtol=1e-9, atol=0)


def test_poor_sketch_costs_no_accuracy():
    matrix, v = spd(4, 8), randn(4, 8, seed=1)
    solution = Nystrom(rank=1, rtol=1e-13, max_steps=50)(operator(matrix), v)
    torch.testing.assert_close(solution.value, torch.linalg.solve(matrix, v))


def test_is_deterministic_and_leaves_the_global_generator_alone():
    matrix, v = spd(2, 6), randn(2, 6, seed=1)
    state = torch.get_rng_state()
    first, second = (Nystrom(rtol=1e-3)(operator(matrix), v) for _ in range(2))
    assert torch.equal(first.value, second.value)
    assert torch.equal(torch.get_rng_state(), state)


def test_sketch_finds_negative_curvature_that_the_right_hand_side_hides():
    matrix = torch.diag_embed(torch.tensor([[1.0, 1.0, -1.0]], dtype=torch.float64))
    v = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)
    assert ConjugateGradients()(operator(matrix), v).status.item() == LinearStatus.SOLVED
    solution = Nystrom(rank=3)(operator(matrix), v)
    assert solution.status.item() == LinearStatus.INDEFINITE
    assert solution.min_curvature.item() == pytest.approx(-1.0)
    torch.testing.assert_close(solution.value, v)


def test_bad_rank_is_refused():
    with pytest.raises(InputError, match=r"^rank is 0: set it to 1 or more"):
        Nystrom(rank=0)
