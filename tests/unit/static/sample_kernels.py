# ruff: noqa: ANN001
"""Small kernels that the compile tests send to workers: one that is fine, one that cannot compile, one that spills."""

import triton
import triton.language as tl


@triton.jit
def multiply_blocks(x_ptr, w_ptr, y_ptr, K, BLOCK: tl.constexpr, DTYPE: tl.constexpr) -> None:
    """y[16, 16] = x[16, K] @ w[16, K]ᵀ, BLOCK columns at a time."""
    rows = tl.arange(0, 16)
    columns = tl.arange(0, BLOCK)
    total = tl.zeros((16, 16), tl.float32)
    for start in range(0, K, BLOCK):
        offsets = rows[:, None] * K + (start + columns)[None, :]
        x = tl.load(x_ptr + offsets).to(DTYPE)
        w = tl.load(w_ptr + offsets).to(DTYPE)
        total = tl.dot(x, tl.trans(w), total)
    tl.store(y_ptr + rows[:, None] * 16 + rows[None, :], total)


@triton.jit
def undefined_name(x_ptr) -> None:
    """Refers to a name that does not exist."""
    tl.store(x_ptr, no_such_name)  # noqa: F821
