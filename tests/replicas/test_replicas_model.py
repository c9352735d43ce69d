"""The rows of R models in a grid, all of them or some."""

import torch

from savi.replicas.model import Layout


def test_a_whole_batch_is_split_and_joined_by_views():
    rows = torch.arange(24.0).reshape(2, 6, 2)
    grid = Layout(3).split(rows)
    assert grid.shape == (2, 3, 2, 2)
    assert grid.data_ptr() == rows.data_ptr()
    assert torch.equal(Layout(3).join(grid), rows)
    assert torch.equal(Layout(3).join(grid[..., 0], 0), rows[..., 0])
    assert torch.equal(Layout(3).join(grid.unsqueeze(-1), 2), rows.unsqueeze(-1))


def test_some_rows_keep_their_models_although_these_keep_different_numbers():
    x = torch.arange(12.0).reshape(3, 4, 1)  # example 10 r + b of model r
    layout, cells = Layout(3).only(torch.tensor([1, 2, 3, 8, 11]), 4)
    assert cells.shape == (3, 3)
    rows = x.flatten(0, 1)[[1, 2, 3, 8, 11]]
    assert torch.equal(layout.join(layout.split(rows)), rows)
    assert torch.equal(layout.join(x.flatten(0, 1)[cells]), rows)
    # The first line of the grid holds the first model's, the last line the last one's.
    assert layout.split(rows)[0, :, 0].tolist() == [1.0, 2.0, 3.0]
    assert layout.split(rows)[2, :2, 0].tolist() == [8.0, 11.0]


def test_some_of_some_rows():
    x = torch.arange(12.0).reshape(3, 4, 1)
    layout, cells = Layout(3).only(torch.tensor([0, 1, 3, 5, 8, 11]), 4)
    fewer, fewer_cells = layout.only(torch.tensor([1, 2, 5]), cells.shape[1])
    kept = x.flatten(0, 1)[cells].flatten(0, 1)[fewer_cells]
    assert fewer.join(kept).flatten().tolist() == [1.0, 3.0, 11.0]
