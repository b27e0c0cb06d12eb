"""Where local least squares look: which neighbours predict a pixel, and which samples tell how.

Two are in use, `NEAR` and `FAR`. A few samples follow an edge at once; many, over more neighbours, tell a texture from
its noise. Neither is better everywhere, so a model may have both (`chainrule.nn.prediction`).

A walk by fronts (`chainrule.nn.fronts`) also knows all that a pixel needs: in the row k above, it knows the pixels less
than 4k columns to the right. So cells d to the right of a pixel's own count only `cell` · (d + 1) / 4 or more rows
above.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from chainrule.nn.fronts import LAG


@dataclass(frozen=True)
class Surroundings:
    """Neighbours, a predictor's support; and the weights of samples, its training window."""

    others: tuple[tuple[int, int], ...]
    """Offsets (row, column) of the neighbours besides W and N."""
    lent: int
    """How many of the neighbours that predict their own channel predict a later one, too."""
    cell: int
    """Columns that share their weights."""
    rows: int
    """Rows above that samples are taken from, at most."""
    before: int
    """Cells to the left."""
    after: int
    """And to the right."""
    ridge: int
    """λ, in half-bins squared."""
    doubling: tuple[int, ...] = ()
    """Squared distances: samples up to each count twice as much as those beyond."""
    columns: tuple[int, ...] = ()
    """In place of these, the weight of each column of cells, from left to right, the same in all of its rows."""
    running: int = 0
    """How many rows these are: the nearest that may be taken."""

    @property
    def own(self) -> int:
        """Neighbours that predict their own channel: W − N is one."""
        return len(self.others) + 1

    @property
    def up(self) -> int:
        """How many rows up neighbours reach: a sample has them all inside the picture. Likewise `left` and `right`."""
        return max(2, *(-row for row, _ in self.others))

    @property
    def left(self) -> int:
        return max(2, *(-column for _, column in self.others))

    @property
    def right(self) -> int:
        return max(1, *(column for _, column in self.others))

    @property
    def top(self) -> int:
        """Rows above a pixel that its numbers come from."""
        return self.rows + self.up

    @property
    def powers(self) -> int:
        """How many weights there are: 1, 2, 4, …."""
        return len(self.doubling) + 1

    def nearest(self, cell: int) -> int:
        """The nearest row above a pixel's own from which a cell's samples are known, `cell` cells to the right."""
        return 0 if cell < 0 else -(-self.cell * (cell + 1) // LAG)

    def weights(self) -> Tensor:
        """ω of each cell, (rows + 1, before + after + 1), the last row being the pixel's own: powers of two.

        >>> NEAR.weights()[-3:].long().tolist()
        [[1, 2, 4, 8, 4], [1, 2, 4, 8, 0], [1, 2, 4, 0, 0]]
        >>> FAR.weights()[-5:].long().tolist()[::2]
        [[1, 1, 1, 1, 2, 2, 1], [1, 1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 2, 0, 0]]
        """
        weights = torch.zeros(self.rows + 1, self.before + self.after + 1, dtype=torch.float64)
        for cell in range(-self.before, self.after + 1):
            nearest = self.nearest(cell)
            if self.running:
                rows = slice(self.rows - nearest - self.running + 1, self.rows - nearest + 1)
                weights[rows, self.before + cell] = self.columns[self.before + cell]
                continue
            for row in range(nearest, self.rows + 1):
                away = row * row + (self.cell * cell) ** 2
                weights[self.rows - row, self.before + cell] = 2 ** sum(away <= bound for bound in self.doubling)
        return weights


FEW = ((-1, -1), (-1, 1), (0, -2), (-2, 0), (-2, 1))

NEAR = Surroundings(FEW, lent=3, cell=4, rows=12, before=3, after=1, ridge=256, doubling=(117, 45, 10))
"""The last 12 rows, weighted by distance."""

FAR = Surroundings(
    (*FEW, (-1, 2), (-2, -1), (-1, -2), (-2, 2)),
    lent=8,
    cell=8,
    rows=27,
    before=5,
    after=1,
    ridge=128,
    columns=(1, 1, 1, 1, 2, 2, 1),
    running=24,
)
"""24 rows of seven cells, with more neighbours."""
