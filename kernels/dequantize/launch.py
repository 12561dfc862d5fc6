"""Launch of the dequantize kernel."""

from typing import Any

import torch
import triton

from lords_bench.kernels.common.gpu import gpu_of
from lords_bench.kernels.common.layout import k_block
from lords_bench.kernels.common.operands import LordsOperands
from lords_bench.kernels.dequantize.kernel import dequantize_kernel
from lords_bench.kernels.dequantize.space import DequantizeConfig, default_config


def dequantize(
    operands: LordsOperands,
    dtype: torch.dtype,
    *,
    config: DequantizeConfig | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """W_NK in `dtype` (float16, bfloat16 or float32), each element rounded once from float32.

    Args:
        operands: prepared for any compute dtype; a `table16` decoder gives levels rounded to that dtype.
        dtype: dtype of the result.
        config: None is the default.
        out: contiguous (N, K) tensor of `dtype` to write to; None allocates it.
    """
    in_float32 = torch.float32 in (operands.b_NR.dtype, operands.levels.dtype)
    config = config or default_config(bits=operands.bits, in_float32=in_float32, gpu=gpu_of(operands.packed.device))
    w_NK = torch.empty(operands.n, operands.k, dtype=dtype, device=operands.packed.device) if out is None else out
    if w_NK.numel() == 0:
        return w_NK
    grid = (triton.cdiv(operands.n, config.block_n), operands.k_blocks)
    dequantize_kernel[grid](
        operands.packed, operands.a_RK, operands.b_NR, w_NK, operands.levels.words,
        operands.n, operands.k, operands.k_blocks,
        **_constexprs(config, operands), num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
    return w_NK


def _constexprs(config: DequantizeConfig, operands: LordsOperands) -> dict[str, Any]:
    return {
        "RANK": operands.rank,
        "BLOCK_N": config.block_n,
        "BITS": operands.bits,
        "DECODER": operands.levels.decoder,
        "DTYPE": operands.levels.triton_dtype,
        "LEVEL_UNIT": operands.levels.unit,
        "EVEN_N": operands.n % config.block_n == 0,
        "EVEN_K": operands.k % k_block(operands.bits) == 0,
    }
