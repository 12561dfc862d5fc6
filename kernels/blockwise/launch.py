"""Launch of the block-wise baseline."""

from collections.abc import Mapping
from typing import Any

import torch
import triton

from lords_bench.errors import UsageError
from lords_bench.kernels.blockwise.kernel import blockwise_dequantize_kernel, blockwise_kernel
from lords_bench.kernels.blockwise.space import MAX_TOKENS, BlockwiseConfig, block_m, default_config
from lords_bench.kernels.common.block_operands import BlockwiseOperands
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.handle import launch_ready
from lords_bench.kernels.common.layout import k_block
from lords_bench.kernels.common.ready import Ready, ready_call
from lords_bench.kernels.common.sums import launch_sums, ready_sums
from lords_bench.kernels.common.support import Support, activation_support, no, require_matrix
from lords_bench.kernels.common.workspace import arrival_counters, partial_buffer, splits_at_once
from lords_bench.kernels.dequantize.space import DequantizeConfig
from lords_bench.kernels.dequantize.space import default_config as default_dequantize_config


def supports(m: int, operands: BlockwiseOperands, dtype: torch.dtype) -> Support:
    """Up to 64 tokens; float32 activations through the portable decoder only."""
    if m > MAX_TOKENS:
        return no(f"M = {m} is above {MAX_TOKENS}; use blockwise_gemm")
    return activation_support(dtype, operands.levels)


def launch(
    x_MK: torch.Tensor,
    operands: BlockwiseOperands,
    *,
    bias_N: torch.Tensor | None = None,
    config: BlockwiseConfig | None = None,
    out: torch.Tensor | None = None,
    arrivals: torch.Tensor | None = None,
) -> torch.Tensor:
    """y_MN = x_MK @ W_NK^T + bias, in the dtype of x. Arguments as for `scale_tile.launch`.

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
        operands.packed, operands.scale_NG, operands.scale_NG if operands.zero_NG is None else operands.zero_NG, x_MK,
        y_MN if bias_N is None else bias_N, y_MN, partial, arrivals, operands.levels.words,
    )  # fmt: skip
    integers = (m, operands.n, operands.k, ready.config.tiles_per_program, *x_MK.stride(), y_MN.stride(0))
    launch_ready(blockwise_kernel, ready, tensors, integers)
    if ready.sums is not None:
        launch_sums(ready.sums, partial, y_MN, bias_N)
    return y_MN


def _call(
    x_MK: torch.Tensor, operands: BlockwiseOperands, config: BlockwiseConfig | None, gpu: Gpu, has_bias: bool
) -> Ready:
    require_matrix(x_MK, operands.k, operands.packed.device)
    m = x_MK.shape[0]
    support = supports(m, operands, x_MK.dtype)
    if not support.ok:
        raise UsageError(support.reason)
    in_float32 = x_MK.dtype == torch.float32
    config = config or default_config(operands.n, operands.k, bits=operands.bits, gpu=gpu, in_float32=in_float32)
    splits = triton.cdiv(operands.k_blocks, config.blocks_k)
    groups = triton.cdiv(operands.n, config.block_n * config.tiles_per_program)
    sums = (
        None
        if config.last_sums
        else ready_sums(m, operands.n, level_unit=operands.levels.unit, has_bias=has_bias, config=config, gpu=gpu)
    )
    return Ready(
        grid=(splits, groups, triton.cdiv(m, block_m(m, smallest=config.min_block_m))),
        constants=_constexprs(config, m, operands, has_bias),
        config=config,
        gpu=gpu,
        splits=splits,
        sums=sums,
    )


def dequantize(
    operands: BlockwiseOperands,
    dtype: torch.dtype,
    *,
    config: DequantizeConfig | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """W_NK in `dtype` (float16, bfloat16 or float32), each element rounded once from float32.

    Its configurations are those of the LoRDS kernel of that name.
    """
    config = config or default_dequantize_config()
    w_NK = torch.empty(operands.n, operands.k, dtype=dtype, device=operands.packed.device) if out is None else out
    if w_NK.numel() == 0:
        return w_NK
    blockwise_dequantize_kernel[(triton.cdiv(operands.n, config.block_n), operands.k_blocks)](
        operands.packed, operands.scale_NG, operands.scale_NG if operands.zero_NG is None else operands.zero_NG, w_NK,
        operands.levels.words, operands.n, operands.k, operands.k_blocks, operands.scale_NG.shape[1],
        BLOCK=operands.block, BLOCK_N=config.block_n, BITS=operands.bits, DECODER=operands.levels.decoder,
        DTYPE=operands.levels.triton_dtype, LEVEL_UNIT=operands.levels.unit,
        HAS_ZERO=operands.zero_NG is not None, EVEN_N=operands.n % config.block_n == 0, num_warps=config.num_warps,
        num_stages=config.num_stages,
    )  # fmt: skip
    return w_NK


def _constexprs(config: BlockwiseConfig, m: int, operands: BlockwiseOperands, has_bias: bool) -> Mapping[str, Any]:
    return {
        "K_BLOCKS": operands.k_blocks,
        "SCALES_PER_ROW": operands.scale_NG.shape[1],
        "BLOCK": operands.block,
        "BLOCK_M": block_m(m, smallest=config.min_block_m),
        "BLOCK_N": config.block_n,
        "BLOCKS_K": config.blocks_k,
        "BITS": operands.bits,
        "DECODER": operands.levels.decoder,
        "LEVEL_UNIT": operands.levels.unit,
        "HAS_ZERO": operands.zero_NG is not None,
        "EVEN_N": operands.n % config.block_n == 0,
        "EVEN_GROUPS": triton.cdiv(operands.n, config.block_n) % config.tiles_per_program == 0,
        "EVEN_K": operands.k % (config.blocks_k * k_block(operands.bits)) == 0,
        "LAST_SUMS": config.last_sums,
        "AT_ONCE": splits_at_once(block_m(m, smallest=config.min_block_m) * config.block_n, config.num_warps),
        "HAS_BIAS": has_bias,
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }
