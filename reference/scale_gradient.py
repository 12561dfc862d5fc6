"""Gradient of the quantization error with respect to B and A, in closed form and in one pass over the cache.

For L = Σ (w - s·v)² with s = (B A)_nk and v the level nearest to w/s, codes held constant,

    dS = -2 (w - s·v) · v      dB = dS Aᵀ      dA = Bᵀ dS

No graph is built and nothing of size N×K is stored: a tile of the weight goes through S, nearest value, residual, dS
and both products while it is in the cache. The nearest value comes from a table of equal cells over [-1, 1]: one
look-up instead of a search among up to 15 thresholds. A quotient within a cell (1/2048) of a threshold may get the
neighbouring level, where both levels are equally good, so the error is wrong by parts in a million; the codes that are
stored never come from here.

Measured on one core of an AMD EPYC (float32): 2.0 ns per weight at rank 4, 2.4 ns at rank 16; a search by
`torch.bucketize` alone is 15 ns.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor

from lords_bench.reference.panels import PANEL_ELEMENTS_GPU
from lords_bench.reference.workers import PanelWorkers

CELLS = 4096

# A tile's four temporaries of 128 KiB stay in a second-level cache of 1 MiB beside the tile itself.
TILE_ELEMENTS = 1 << 15
TILE_COLUMNS = 4096

# Weights looked at to refit levels: 65,000 for each of 16.
LEVEL_SAMPLE = 1 << 20

# Rows of one thread's task. Its share of dA is summed apart from the others, in the order of the tasks, so results do
# not depend on how many threads there are.
TASK_ELEMENTS = 1 << 18
MOST_TASKS = 16


class ScaleGradient:
    """The gradient at any B, A and levels, for one weight. Call it; read `b_grad_NR` and `a_grad_RK`.

    Owns contiguous copies of B and A (`b_NR`, `a_RK`), to be changed in place between calls.

    Args:
        weight_NK: float32 or float64. One scaled copy of it is kept.
        b_NR: start of B.
        a_RK: start of A.
        row_weight_N: weight of each row's squared error in dA.
        column_weight_K: weight of each column's squared error in dB.
        workers: threads to share the rows.

    dB of a row leaves out that row's own weight, and dA of a column that column's: an optimiser that takes steps of a
    given size would divide by them again.
    """

    def __init__(
        self,
        weight_NK: Tensor,
        b_NR: Tensor,
        a_RK: Tensor,
        *,
        row_weight_N: Tensor,
        column_weight_K: Tensor,
        workers: PanelWorkers,
    ) -> None:
        # In units of half the table, so that w/s is a distance in cells; every gradient is larger by CELLS²/4.
        self._weight_NK = weight_NK * (CELLS / 2)
        self.b_NR, self.a_RK = b_NR.clone(memory_format=torch.contiguous_format), a_RK.contiguous().clone()
        self.b_grad_NR, self.a_grad_RK = torch.empty_like(self.b_NR), torch.empty_like(self.a_RK)
        self._row_weight_N1, self._column_weight_K = row_weight_N.unsqueeze(1), column_weight_K
        self._weighted_b_NR, self._weighted_a_RK = torch.empty_like(self.b_NR), torch.empty_like(self.a_RK)
        self._workers = workers
        self._table = torch.empty(0)
        self._tasks = list(self._cut())

    def set_levels(self, levels_L: Tensor) -> None:
        """Levels in [-1, 1] that the next calls round to."""
        centre = (torch.arange(CELLS, dtype=torch.float64, device=levels_L.device) + 0.5) * (2 / CELLS) - 1
        levels = levels_L.to(torch.float64)
        nearest = levels[torch.bucketize(centre, (levels[1:] + levels[:-1]) / 2)]
        self._table = (nearest * (CELLS / 2)).to(self._weight_NK.dtype)

    def __call__(self) -> None:
        """Fills `b_grad_NR` and `a_grad_RK` for the present B and A, up to a common positive factor."""
        torch.mul(self.b_NR, self._row_weight_N1, out=self._weighted_b_NR)
        torch.mul(self.a_RK, self._column_weight_K, out=self._weighted_a_RK)
        self.b_grad_NR.zero_()
        parts = self._workers.map(partial(_run_task, table=self._table), self._tasks)
        torch.sum(torch.stack(parts), dim=0, out=self.a_grad_RK)

    def fit_levels(self, levels_L: Tensor) -> Tensor:
        """Levels that minimise the weighted error of a sample of tiles with their present codes; unsorted.

        Call it with the levels that were set last. A level without codes in the sample keeps its value.
        """
        tiles = [tile for task in self._tasks for tile in task.tiles]
        spread = max(1, self._weight_NK.numel() // LEVEL_SAMPLE)
        stored_L = (levels_L.to(torch.float64) * (CELLS / 2)).to(self._weight_NK.dtype)
        sums_2L = torch.zeros(2, len(levels_L), dtype=torch.float64, device=levels_L.device)
        for tile in tiles[::spread]:
            sums_2L += _level_sums(tile, self._table, stored_L)
        product_L, square_L = sums_2L
        fitted_L = product_L / square_L.clamp_min(torch.finfo(torch.float64).tiny) * (2 / CELLS)
        return torch.where(square_L > 0, fitted_L, levels_L.to(torch.float64)).to(levels_L.dtype)

    def _cut(self) -> Iterator["_Task"]:
        n, k = self._weight_NK.shape
        on_gpu = self._weight_NK.is_cuda
        tasks = 1 if on_gpu else max(1, min(MOST_TASKS, self._weight_NK.numel() // TASK_ELEMENTS))
        columns = k if on_gpu else min(k, TILE_COLUMNS)
        rows = max(1, (PANEL_ELEMENTS_GPU if on_gpu else TILE_ELEMENTS) // columns)
        for task in range(tasks):
            first, last = n * task // tasks, n * (task + 1) // tasks
            buffers = _Buffers.for_tiles(self._weight_NK, min(rows, last - first), columns)
            a_grad_RK = torch.empty_like(self.a_RK)
            tiles: list[_Tile] = []
            for row in range(first, last, rows):
                rows_P = slice(row, min(row + rows, last))
                tiles += [
                    self._tile(rows_P, slice(column, min(column + columns, k)), buffers, a_grad_RK)
                    for column in range(0, k, columns)
                ]
            yield _Task(tiles=tuple(tiles), a_grad_RK=a_grad_RK)

    def _tile(self, rows: slice, columns: slice, buffers: "_Buffers", a_grad_RK: Tensor) -> "_Tile":
        weight_PC = self._weight_NK[rows, columns]
        return _Tile(
            weight_PC=weight_PC,
            b_PR=self.b_NR[rows],
            a_RC=self.a_RK[:, columns],
            weighted_b_RP=self._weighted_b_NR[rows].T,
            weighted_a_CR=self._weighted_a_RK[:, columns].T,
            b_grad_PR=self.b_grad_NR[rows],
            a_grad_RC=a_grad_RK[:, columns],
            row_weight_P1=self._row_weight_N1[rows],
            column_weight_C=self._column_weight_K[columns],
            buffers=buffers.shaped(*weight_PC.shape),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Buffers:
    """Temporaries of one thread's task, reused by all its tiles."""

    scale: Tensor
    work: Tensor
    value: Tensor
    cell: Tensor

    @classmethod
    def for_tiles(cls, like: Tensor, rows: int, columns: int) -> Self:
        empty: Callable[..., Tensor] = partial(torch.empty, rows * columns, device=like.device)
        return cls(
            scale=empty(dtype=like.dtype),
            work=empty(dtype=like.dtype),
            value=empty(dtype=like.dtype),
            cell=empty(dtype=torch.int32),
        )

    def shaped(self, rows: int, columns: int) -> "_Buffers":
        """The first rows·columns elements of each, as matrices."""
        size = rows * columns
        return _Buffers(
            scale=self.scale[:size].view(rows, columns),
            work=self.work[:size].view(rows, columns),
            value=self.value[:size].view(rows, columns),
            cell=self.cell[:size].view(rows, columns),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Tile:
    """Views of everything one tile reads and writes, made once: slicing costs as much as a small operation."""

    weight_PC: Tensor
    b_PR: Tensor
    a_RC: Tensor
    weighted_b_RP: Tensor
    weighted_a_CR: Tensor
    b_grad_PR: Tensor
    a_grad_RC: Tensor
    row_weight_P1: Tensor
    column_weight_C: Tensor
    buffers: _Buffers


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Task:
    """Rows that one thread works through, and their share of dA."""

    tiles: tuple[_Tile, ...]
    a_grad_RK: Tensor


@torch.no_grad()
def _run_task(task: _Task, *, table: Tensor) -> Tensor:
    task.a_grad_RK.zero_()
    for tile in task.tiles:
        value_PC, residual_PC = _nearest(tile, table), tile.buffers.work
        torch.mul(tile.buffers.scale, value_PC, out=residual_PC).sub_(tile.weight_PC)
        gradient_PC = residual_PC.mul_(value_PC)
        tile.b_grad_PR.addmm_(gradient_PC, tile.weighted_a_CR)
        tile.a_grad_RC.addmm_(tile.weighted_b_RP, gradient_PC)
    return task.a_grad_RK


def _nearest(tile: _Tile, table: Tensor) -> Tensor:
    """Nearest level of w/s for each weight of the tile, in units of half the table; `buffers.scale` then holds S."""
    buffers = tile.buffers
    torch.mm(tile.b_PR, tile.a_RC, out=buffers.scale)
    quotient_PC = torch.div(tile.weight_PC, buffers.scale, out=buffers.work)
    # 0/0 is any level, here the middle one; ±w/0 is the outermost.
    quotient_PC.nan_to_num_(0.0).add_(CELLS / 2).clamp_(0.0, CELLS - 1.0)
    buffers.cell.copy_(quotient_PC)
    torch.index_select(table, 0, buffers.cell.view(-1), out=buffers.value.view(-1))
    return buffers.value


def _level_sums(tile: _Tile, table: Tensor, stored_L: Tensor) -> Tensor:
    """Σ h s w and Σ h s² over the codes of each level, h the weight of the squared error: 2×L, float64."""
    value_PC = _nearest(tile, table)
    weighted_PC = tile.buffers.scale * tile.row_weight_P1 * tile.column_weight_C
    product_E = (weighted_PC * tile.weight_PC).view(-1)
    square_E = (weighted_PC * tile.buffers.scale).view(-1)
    sums = []
    for level in stored_L:
        has_level_E = torch.eq(value_PC, level).to(value_PC.dtype).view(-1)
        sums.append(torch.stack((torch.dot(has_level_E, product_E), torch.dot(has_level_E, square_E))))
    return torch.stack(sums, dim=1).to(torch.float64)
