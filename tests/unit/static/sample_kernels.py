# ruff: noqa: ANN001, ARG001
"""Small kernels that the compile tests send to workers, and what launches them: one is fine, one cannot compile."""

import torch
import triton
import triton.language as tl

from lords_bench.errors import UsageError


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


def launch_multiply(target, k: int = 1024, block: int = 64, num_stages: int = 2) -> None:
    """`multiply_blocks` on tensors with no memory behind them."""
    x = torch.empty(16, k, dtype=torch.float16, device="meta")
    y = torch.empty(16, 16, device="meta")
    multiply_blocks[(1,)](x, x, y, k, BLOCK=block, DTYPE=tl.float16, num_warps=1, num_stages=num_stages)


def launch_twice(target) -> None:
    """Two launches with different code."""
    launch_multiply(target)
    launch_multiply(target, block=32)


def launch_undefined(target) -> None:
    """What cannot compile."""
    undefined_name[(1,)](torch.empty(16))


def refuse(target) -> None:
    """A problem that is not taken."""
    raise UsageError(f"no product on {target.name}; use another")
