"""Sums of split-K partial results in a fixed order: same inputs, same bits, whatever order programs finish in.

Programs store fp32 partial sums to partial[split, m, n]. Either the last program of an N range adds them up in the
same launch (`last_arrival`, few tiles), or a second kernel does (`sum_partials_kernel`, many tiles), which is launched
by `sums.py`.
"""

import triton
import triton.language as tl


@triton.jit
def last_arrival(arrivals_ptr, group, programs):
    """Whether this program is the last of `programs` to arrive at `group`; the counter returns to zero for reuse.

    The barrier puts the whole program's stores before the atomic, which publishes them (release) and sees those of the
    programs that came before (acquire).
    """
    tl.debug_barrier()
    arrived = tl.atomic_add(arrivals_ptr + group, 1, sem="acq_rel")
    is_last = arrived == programs - 1
    if is_last:
        tl.store(arrivals_ptr + group, 0)
    return is_last


@triton.jit
def sum_partials(
    partial_ptr, y_ptr, bias_ptr, rows_m, rows_n, tiles, step_n, splits, M, N, y_stride_m,
    LEVEL_UNIT: tl.constexpr, HAS_BIAS: tl.constexpr, AT_ONCE: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """y[m, n] = LEVEL_UNIT · Σ_split partial[split, m, n] + bias[n] for SIZE pairs (m, n), AT_ONCE splits in flight.

    Then the same for n + step_n, and so on: `tiles` times. One loop, not two: the assembler takes the deepest loop of a
    kernel for its hottest, and would recompute addresses in the main loop to save registers for this one.
    """
    split = tl.arange(0, AT_ONCE)
    total = tl.zeros((SIZE,), tl.float32)
    first = 0
    for _ in range(tiles * tl.cdiv(splits, AT_ONCE)):
        inside = (rows_m < M) & (rows_n < N)
        ptrs = partial_ptr + ((first + split).to(tl.int64)[:, None] * M + rows_m[None, :]) * N + rows_n[None, :]
        # .cg reads the second-level cache, where the other programs' stores are.
        part = tl.load(ptrs, mask=(first + split < splits)[:, None] & inside[None, :], other=0.0, cache_modifier=".cg")
        total += tl.sum(part, axis=0)
        first += AT_ONCE
        if first >= splits:
            y = total * LEVEL_UNIT
            if HAS_BIAS:
                y += tl.load(bias_ptr + rows_n, mask=inside, other=0.0).to(tl.float32)
            y_ptrs = y_ptr + rows_m.to(tl.int64) * y_stride_m + rows_n
            tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=inside)
            total = tl.zeros((SIZE,), tl.float32)
            rows_n += step_n
            first = 0


@triton.jit
def sum_partials_kernel(
    partial_ptr, y_ptr, bias_ptr, splits, M, N, y_stride_m,
    LEVEL_UNIT: tl.constexpr, HAS_BIAS: tl.constexpr, AT_ONCE: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """The second kernel of the two-launch reduction; one program per row m and SIZE outputs."""
    columns = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    rows_m = tl.zeros((SIZE,), tl.int32) + tl.program_id(1)
    sum_partials(
        partial_ptr,
        y_ptr,
        bias_ptr,
        rows_m,
        columns,
        1,
        SIZE,
        splits,
        M,
        N,
        y_stride_m,
        LEVEL_UNIT,
        HAS_BIAS,
        AT_ONCE,
        SIZE,
    )
