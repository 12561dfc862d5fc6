"""Launch of the scale-tile kernel for few tokens."""

from collections.abc import Mapping
from typing import Any

import torch
import triton

from lords_bench.errors import UsageError
from lords_bench.kernels.common.gpu import Gpu, is_compiled_on
from lords_bench.kernels.common.handle import launch_ready
from lords_bench.kernels.common.layout import k_block
from lords_bench.kernels.common.operands import LordsOperands
from lords_bench.kernels.common.ready import Ready, ready_call
from lords_bench.kernels.common.sums import launch_sums, ready_sums
from lords_bench.kernels.common.support import Support, activation_support, no, require_fp16_scale, require_matrix
from lords_bench.kernels.common.workspace import arrival_counters, partial_buffer, splits_at_once
from lords_bench.kernels.scale_tile.kernel import scale_tile_kernel
from lords_bench.kernels.scale_tile.space import (
    MAX_FLOAT32_TOKENS,
    MAX_TOKENS,
    ScaleTileConfig,
    block_m,
    default_config,
)


def supports(m: int, operands: LordsOperands, dtype: torch.dtype) -> Support:
    """Up to 64 tokens; of float32 16, through the portable decoder only."""
    if m > MAX_TOKENS:
        return no(f"M = {m} is above {MAX_TOKENS}; use scale_tile_gemm or dequantize and a dense matmul")
    if dtype == torch.float32 and m > MAX_FLOAT32_TOKENS and is_compiled_on(operands.packed.device):
        return no(f"M = {m} is above {MAX_FLOAT32_TOKENS} in float32; use dequantize and a dense matmul")
    return activation_support(dtype, operands.levels)


def launch(
    x_MK: torch.Tensor,
    operands: LordsOperands,
    *,
    bias_N: torch.Tensor | None = None,
    config: ScaleTileConfig | None = None,
    out: torch.Tensor | None = None,
    arrivals: torch.Tensor | None = None,
) -> torch.Tensor:
    """y_MN = x_MK @ W_NK^T + bias, in the dtype of x.

    Args:
        x_MK: any strides.
        operands: the weight, prepared for the dtype of x.
        bias_N: added in fp32 before the result is rounded.
        config: None is `default_config`.
        out: (M, N) tensor with contiguous rows to write to; None allocates it.
        arrivals: zeroed int32 counters, at least `arrivals_needed`; None allocates them.

    Raises:
        UsageError: a problem that `supports` refuses.
    """
    ready = ready_call(_call, x_MK, operands, config, bias_N is not None)
    m = x_MK.shape[0]
    y_MN = torch.empty(m, operands.n, dtype=x_MK.dtype, device=x_MK.device) if out is None else out
    if y_MN.numel() == 0:
        return y_MN
    partial = partial_buffer(ready.splits, m, operands.n, x_MK.device)
    if arrivals is None:
        arrivals = arrival_counters(ready.grid[1] * ready.grid[2], x_MK.device)
    tensors = (
        operands.packed, operands.a_RK, operands.b_NR, x_MK, y_MN if bias_N is None else bias_N, y_MN, partial,
        arrivals, operands.levels.words,
    )  # fmt: skip
    integers = (m, operands.n, operands.k, ready.config.tiles_per_program, *x_MK.stride(), y_MN.stride(0))
    launch_ready(scale_tile_kernel, ready, tensors, integers)
    if ready.sums is not None:
        launch_sums(ready.sums, partial, y_MN, bias_N)
    return y_MN


def _call(
    x_MK: torch.Tensor, operands: LordsOperands, config: ScaleTileConfig | None, gpu: Gpu, has_bias: bool
) -> Ready:
    require_matrix(x_MK, operands.k, operands.packed.device)
    m = x_MK.shape[0]
    support = supports(m, operands, x_MK.dtype)
    if not support.ok:
        raise UsageError(support.reason)
    config = config or default_config(
        m, operands.n, operands.k, bits=operands.bits, rank=operands.rank, gpu=gpu,
        in_float32=x_MK.dtype == torch.float32,
    )  # fmt: skip
    require_fp16_scale(config.scale_in_fp16, x_MK, operands.b_NR)
    programs = grid(config, m, operands)
    sums = (
        None
        if config.last_sums
        else ready_sums(m, operands.n, level_unit=operands.levels.unit, has_bias=has_bias, config=config, gpu=gpu)
    )
    return Ready(
        grid=programs, constants=_constexprs(config, m, operands, has_bias), config=config, gpu=gpu,
        splits=programs[0], sums=sums,
    )  # fmt: skip


def grid(config: ScaleTileConfig, m: int, operands: LordsOperands) -> tuple[int, int, int]:
    """Programs: (K chunks, N groups, M tiles)."""
    splits = triton.cdiv(operands.k_blocks, config.blocks_k)
    return (
        splits,
        triton.cdiv(operands.n, config.block_n * config.tiles_per_program),
        triton.cdiv(m, block_m(m, smallest=config.min_block_m)),
    )


def _constexprs(config: ScaleTileConfig, m: int, operands: LordsOperands, has_bias: bool) -> Mapping[str, Any]:
    return {
        "K_BLOCKS": operands.k_blocks,
        "RANK": operands.rank,
        "BLOCK_M": block_m(m, smallest=config.min_block_m),
        "BLOCK_N": config.block_n,
        "BLOCKS_K": config.blocks_k,
        "BITS": operands.bits,
        "DECODER": operands.levels.decoder,
        "LEVEL_UNIT": operands.levels.unit,
        "SCALE_IN_FP16": config.scale_in_fp16,
        "EVEN_N": operands.n % config.block_n == 0,
        "EVEN_GROUPS": triton.cdiv(operands.n, config.block_n) % config.tiles_per_program == 0,
        "EVEN_K": operands.k % (config.blocks_k * k_block(operands.bits)) == 0,
        "LAST_SUMS": config.last_sums,
        "AT_ONCE": splits_at_once(block_m(m, smallest=config.min_block_m) * config.block_n, config.num_warps),
        "HAS_BIAS": has_bias,
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }
