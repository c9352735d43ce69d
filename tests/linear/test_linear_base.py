"""Vector operations per example."""

import torch

from savi.linear.base import norm


def test_norm_neither_overflows_nor_underflows():
    v = torch.tensor([[3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0]])
    torch.testing.assert_close(norm(v), torch.tensor([5e-30, 5e30, 0.0]), rtol=1e-6, atol=0)
    assert norm(torch.tensor([[torch.inf, 1.0], [torch.nan, 1.0]])).isnan().all()
