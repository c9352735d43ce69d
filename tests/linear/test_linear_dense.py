"""Small operations on blocks."""

import pytest
import torch

from savi.linear.dense import finite_blocks, plus_diagonal


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_blocks_with_a_number_that_is_not_finite_are_found(wrong):
    blocks = torch.full((3, 2, 2), 3e38)  # whose sums overflow
    blocks[1, 0, 1] = wrong
    assert finite_blocks(blocks).tolist() == [True, False, True]


def test_a_diagonal_is_added_and_differentiated():
    blocks = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    diagonal = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(plus_diagonal(blocks, diagonal), blocks + torch.diag_embed(diagonal))
    assert torch.autograd.gradcheck(plus_diagonal, (blocks, diagonal))
    assert torch.autograd.gradgradcheck(plus_diagonal, (blocks, diagonal))
