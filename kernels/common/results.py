"""Stores that several kernels share."""

import triton
import triton.language as tl


@triton.jit
def store_transposed(
    y_ptr, bias_ptr, total, first_n, rows_m, M, N, y_stride_m,
    BLOCK_N: tl.constexpr, LEVEL_UNIT: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """y[m, n] = LEVEL_UNIT · total[n, m] + bias[n]."""
    rows_n = first_n + tl.arange(0, BLOCK_N)
    y = total * LEVEL_UNIT
    if HAS_BIAS:
        y += tl.load(bias_ptr + rows_n, mask=rows_n < N, other=0.0).to(tl.float32)[:, None]
    y_ptrs = y_ptr + rows_m.to(tl.int64)[None, :] * y_stride_m + rows_n[:, None]
    tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=(rows_n < N)[:, None] & (rows_m < M)[None, :])
