"""Where the examples of R models lie in one batch: one model's after another's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The rows of a batch as a grid with a line for each model.

    Row i lies in cell ``cells[i]`` of the flattened grid. Without ``cells`` the batch fills the
    grid row by row, and both directions are views. With them, cells that no row lies in show the
    first row, and what is computed there is dropped.

    Attributes:
        models: R, the lines.
        cells: rising in i; None if the batch fills the grid.
        shown: the row that each cell shows, shape [R, m].
    """

    models: int
    cells: Int[Tensor, " N"] | None = None
    shown: Int[Tensor, "R m"] | None = None

    def split(self, v: Float[Tensor, "*S N F"]) -> Float[Tensor, "*S R m F"]:
        """The rows in the grid."""
        if self.shown is None:
            return v.unflatten(-2, (self.models, -1))
        return v[..., self.shown, :]

    def join(self, v: Tensor, event: int = 1) -> Tensor:
        """The grid [..., R, m, *event] as rows [..., N, *event].

        Args:
            v: what was computed in the grid.
            event: how many axes the value of an example has.
        """
        rows = v.flatten(-2 - event, -1 - event)
        return rows if self.cells is None else rows.index_select(rows.ndim - 1 - event, self.cells)

    def only(self, index: Int[Tensor, " K"], size: int) -> tuple[Layout, Int[Tensor, "R m"]]:
        """The layout of some of the rows, in their order.

        Args:
            index: the rows, rising.
            size: the cells in a line of this grid.

        Returns:
            The layout, and for each of its cells a cell of this grid that holds the same example.
        """
        old = index if self.cells is None else self.cells[index]
        line = old // size
        counts = torch.bincount(line, minlength=self.models)
        place = torch.arange(len(index), device=index.device) - (counts.cumsum(0) - counts)[line]
        width = int(counts.max())
        cells = line * width + place
        shown = cells.new_zeros(self.models * width)
        shown[cells] = torch.arange(len(index), device=index.device)
        shown = shown.unflatten(0, (self.models, width))
        return Layout(self.models, cells, shown), old[shown]
