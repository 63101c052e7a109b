"""Ground is cut into blocks before anything else: a block is what a split is made of, and no patch crosses one.

A tile becomes equal rectangles of at least ``block_size``. Rectangles and not squares of exactly that size, because a
tile's side is rarely a multiple of it, and a strip left over would give patches of its own shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from projects.engine.errors import UserError

# Points seldom lie on a tile's very border: what lacks 2 % of the next block, or of a patch, counts as whole.
TOLERANCE = 0.02
MOST = 65_535  # a store keeps the number of a block in 16 bits


@dataclass(frozen=True)
class BlockGrid:
    """Blocks of one tile, numbered row by row from the lower left corner.

    Attributes:
        bounds: x0, y0, x1, y1 of the tile.
        columns: Blocks along x.
        rows: Blocks along y.

    Raises:
        UserError: There are more than :data:`MOST`.
    """

    bounds: tuple[float, float, float, float]
    columns: int
    rows: int

    def __post_init__(self) -> None:
        if self.columns * self.rows > MOST:
            x0, y0, x1, y1 = self.bounds
            raise UserError(f'--block-size: expected at most {MOST:,} blocks a tile, found '
                            f'{self.columns * self.rows:,} in {x1 - x0:,.0f} m x {y1 - y0:,.0f} m; choose larger ones')

    def __len__(self) -> int:
        return self.columns * self.rows

    def boxes(self) -> np.ndarray:
        """Return x0, y0, x1, y1 of every block, ``(blocks, 4)`` float64."""
        x = np.linspace(self.bounds[0], self.bounds[2], self.columns + 1)
        y = np.linspace(self.bounds[1], self.bounds[3], self.rows + 1)
        row, column = np.divmod(np.arange(len(self)), self.columns)
        return np.stack([x[column], y[row], x[column + 1], y[row + 1]], axis=1)

    def number_of(self, xy: np.ndarray) -> np.ndarray:
        """Return the block of every point ``(n, 2)`` as ``(n,)`` uint16; one on an inner border lies right or above."""
        x0, y0, x1, y1 = self.bounds
        column = _part(xy[:, 0], x0, x1, self.columns)
        return (_part(xy[:, 1], y0, y1, self.rows) * self.columns + column).astype(np.uint16)


def cut_blocks(bounds: Sequence[float], block_size: float | None) -> BlockGrid:
    """Cut a tile into ``max(1, floor(side / block_size))`` blocks each way.

    Args:
        bounds: x0, y0, x1, y1.
        block_size: Metres; None for one block, the whole tile.

    Raises:
        UserError: See :class:`BlockGrid`.
    """
    x0, y0, x1, y1 = (float(value) for value in bounds)
    columns, rows = ((1, 1) if block_size is None
                     else (max(1, int(side / block_size + TOLERANCE)) for side in (x1 - x0, y1 - y0)))
    return BlockGrid((x0, y0, x1, y1), columns, rows)


def _part(values: np.ndarray, low: float, high: float, parts: int) -> np.ndarray:
    """Return into which of ``parts`` equal parts of ``low..high`` values fall, ``(n,)`` int64."""
    if parts == 1 or high <= low:
        return np.zeros(len(values), np.int64)
    borders = np.linspace(low, high, parts + 1)[1:-1]  # the same numbers as boxes(): no point beside its own block
    return np.searchsorted(borders, values, side='right')
