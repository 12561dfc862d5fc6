# ruff: noqa: ANN001, ANN201, PLR0913, PLR0917
"""Kernels without anything of this project: what any Triton kernel may do, right and wrong."""

import triton
import triton.language as tl


@triton.jit
def scale_and_shift(x_ptr, y_ptr, count, factor, BLOCK: tl.constexpr):
    """y = factor · x + 1."""
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    tl.store(y_ptr + places, tl.load(x_ptr + places, mask=inside) * factor + 1, mask=inside)


@triton.jit
def scale_beyond_the_end(x_ptr, y_ptr, count, BLOCK: tl.constexpr):
    """The same without its mask on the load."""
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + places, tl.load(x_ptr + places), mask=places < count)


@triton.jit
def softmax_rows(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    """A row per program."""
    places = tl.arange(0, BLOCK)
    row = tl.program_id(0) * columns
    x = tl.load(x_ptr + row + places, mask=places < columns, other=-float("inf"))
    top = tl.exp(x - tl.max(x, 0))
    tl.store(y_ptr + row + places, top / tl.sum(top, 0), mask=places < columns)


@triton.jit
def multiply(x_ptr, w_ptr, y_ptr, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    """y[m, n] = x[m, k] @ w[k, n], in tiles."""
    rows = tl.program_id(0) * M + tl.arange(0, M)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    total = tl.zeros((M, N), tl.float32)
    for first in range(0, k, K):
        inner = first + tl.arange(0, K)
        x = tl.load(x_ptr + rows[:, None] * k + inner, mask=(rows < m)[:, None] & (inner < k), other=0.0)
        w = tl.load(w_ptr + inner[:, None] * n + columns, mask=(inner < k)[:, None] & (columns < n), other=0.0)
        total = tl.dot(x, w, total)
    tl.store(y_ptr + rows[:, None] * n + columns, total, mask=(rows < m)[:, None] & (columns < n))


@triton.jit
def transpose(x_ptr, y_ptr, N: tl.constexpr):
    """y = xᵀ, through shared memory."""
    rows, columns = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    x = tl.load(x_ptr + rows * N + columns)
    tl.store(y_ptr + rows * N + columns, tl.trans(x))


@triton.jit
def count_values(x_ptr, counts_ptr, BLOCK: tl.constexpr):
    """A histogram by atomics."""
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(counts_ptr + tl.load(x_ptr + places), 1, sem="relaxed")


@triton.jit
def copy_square(x_ptr, y_ptr, TRANSPOSED: tl.constexpr, N: tl.constexpr):
    """y = x or xᵀ, where each lane has the next element of y."""
    places = tl.arange(0, N * N)
    tl.store(y_ptr + places, tl.load(x_ptr + ((places % N) * N + places // N if TRANSPOSED else places)))
