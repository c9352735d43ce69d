import pytest
import torch

from savi.linear.lu import LUFactor


@pytest.fixture
def blocks():
    torch.manual_seed(0)
    return torch.randn(3, 5, 5, dtype=torch.float64)


def test_it_solves_with_the_blocks_and_their_transposes(blocks):
    factor = LUFactor.of(blocks)
    rhs = torch.randn(3, 5, 2, dtype=torch.float64)
    torch.testing.assert_close(blocks @ factor.solve(rhs), rhs)
    torch.testing.assert_close(blocks.mT @ factor.solve_transposed(rhs), rhs)
    assert not factor.singular.any()


def test_the_condition_number_is_that_of_the_one_norm(blocks):
    expected = torch.linalg.cond(blocks, p=1)
    torch.testing.assert_close(LUFactor.of(blocks).condition, expected)


@pytest.mark.parametrize("value", [0.0, 1e-18, float("nan"), float("inf")])
def test_a_singular_block_is_reported_and_answered_with_0(blocks, value):
    blocks[1] = torch.diag(torch.tensor([1.0, 2.0, value, 3.0, 1.0], dtype=torch.float64))
    factor = LUFactor.of(blocks)
    assert factor.singular.tolist() == [False, True, False]
    rhs = torch.ones(3, 5, 1, dtype=torch.float64)
    assert (factor.solve(rhs)[1] == 0).all()
    assert (factor.solve_transposed(rhs)[1] == 0).all()
    torch.testing.assert_close((blocks @ factor.solve(rhs))[[0, 2]], rhs[[0, 2]])
    assert factor.condition[1] > 1e15
