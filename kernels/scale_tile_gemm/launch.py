"""Launch of the scale-tile GEMM."""

from collections.abc import Mapping
from typing import Any

import torch
import triton

from lords_bench.errors import UsageError
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.handle import launch_ready
from lords_bench.kernels.common.layout import k_block
from lords_bench.kernels.common.operands import LordsOperands
from lords_bench.kernels.common.ready import Ready, ready_call
from lords_bench.kernels.common.support import Support, require_fp16_scale, require_matrix, tensor_core_support
from lords_bench.kernels.scale_tile_gemm.kernel import joined_gemm_kernel, split_gemm_kernel
from lords_bench.kernels.scale_tile_gemm.space import ScaleTileGemmConfig, default_config


def supports(operands: LordsOperands, dtype: torch.dtype) -> Support:
    """Any number of tokens; float32 activations in the interpreter only."""
    return tensor_core_support(dtype, operands.levels, operands.packed.device)


def launch(
    x_MK: torch.Tensor,
    operands: LordsOperands,
    *,
    bias_N: torch.Tensor | None = None,
    config: ScaleTileGemmConfig | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """y_MN = x_MK @ W_NK^T + bias, in the dtype of x. x may have any strides; `out` must have contiguous rows.

    Raises:
        UsageError: a problem that `supports` refuses.
    """
    ready = ready_call(_call, x_MK, operands, config, bias_N is not None)
    m = x_MK.shape[0]
    y_MN = torch.empty(m, operands.n, dtype=x_MK.dtype, device=x_MK.device) if out is None else out
    if y_MN.numel() == 0:
        return y_MN
    kernel = joined_gemm_kernel if ready.config.form == "joined" else split_gemm_kernel
    tensors = (
        operands.packed, operands.a_RK, operands.b_NR, x_MK, y_MN if bias_N is None else bias_N, y_MN,
        operands.levels.words,
    )  # fmt: skip
    launch_ready(kernel, ready, tensors, (m, operands.n, operands.k, operands.k_blocks, *x_MK.stride(), y_MN.stride(0)))
    return y_MN


def _call(
    x_MK: torch.Tensor, operands: LordsOperands, config: ScaleTileGemmConfig | None, gpu: Gpu, has_bias: bool
) -> Ready:
    require_matrix(x_MK, operands.k, operands.packed.device)
    support = supports(operands, x_MK.dtype)
    if not support.ok:
        raise UsageError(support.reason)
    m = x_MK.shape[0]
    config = config or default_config(
        m, bits=operands.bits, rank=operands.rank, decoder=operands.levels.decoder, gpu=gpu
    )
    require_fp16_scale(config.scale_in_fp16, x_MK, operands.b_NR)
    programs = (triton.cdiv(operands.n, config.block_n), triton.cdiv(m, config.block_m))
    return Ready(grid=programs, constants=_constexprs(config, m, operands, has_bias), config=config, gpu=gpu)


def _constexprs(config: ScaleTileGemmConfig, m: int, operands: LordsOperands, has_bias: bool) -> Mapping[str, Any]:
    return {
        "RANK": operands.rank,
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BLOCKS_K": 1,
        "BITS": operands.bits,
        "DECODER": operands.levels.decoder,
        "LEVEL_UNIT": operands.levels.unit,
        "SCALE_IN_FP16": config.scale_in_fp16,
        "EVEN_M": m % config.block_m == 0,
        "EVEN_N": operands.n % config.block_n == 0,
        "EVEN_K": operands.k % k_block(operands.bits) == 0,
        "HAS_BIAS": has_bias,
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }
