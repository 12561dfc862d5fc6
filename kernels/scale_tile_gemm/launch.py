"""Launch of the scale-tile GEMM."""

from collections.abc import Mapping
from typing import Any

import torch
import triton

from lords_bench.errors import UsageError
from lords_bench.kernels.common.gpu import gpu_of, is_on_gpu
from lords_bench.kernels.common.layout import k_block
from lords_bench.kernels.common.operands import LordsOperands
from lords_bench.kernels.common.signature import KernelSignature, decode_dtype, pointer, table_pointer
from lords_bench.kernels.common.support import Support, activation_support, no, require_fp16_scale, require_matrix
from lords_bench.kernels.scale_tile_gemm.kernel import joined_gemm_kernel, split_gemm_kernel
from lords_bench.kernels.scale_tile_gemm.space import ScaleTileGemmConfig, default_config

CONFIG = ScaleTileGemmConfig


def supports(operands: LordsOperands, dtype: torch.dtype) -> Support:
    """Any number of tokens; float32 activations in the interpreter only."""
    if dtype == torch.float32 and is_on_gpu(operands.packed.device):
        return no("float32 products have no tensor core to run on; use dequantize and a dense matmul")
    return activation_support(dtype, operands.levels)


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
    require_matrix(x_MK, operands.k, operands.packed.device)
    support = supports(operands, x_MK.dtype)
    if not support.ok:
        raise UsageError(support.reason)
    m = x_MK.shape[0]
    y_MN = torch.empty(m, operands.n, dtype=x_MK.dtype, device=x_MK.device) if out is None else out
    if y_MN.numel() == 0:
        return y_MN
    config = config or default_config(m, bits=operands.bits, decoder=operands.levels.decoder, gpu=gpu_of(x_MK.device))
    require_fp16_scale(config.scale_in_fp16, x_MK, operands.b_NR)
    kernel = joined_gemm_kernel if config.form == "joined" else split_gemm_kernel
    kernel[(triton.cdiv(operands.n, config.block_n), triton.cdiv(m, config.block_m))](
        operands.packed, operands.a_RK, operands.b_NR, x_MK, y_MN if bias_N is None else bias_N, y_MN,
        operands.levels.words, m, operands.n, operands.k, operands.k_blocks,
        x_MK.stride(0), x_MK.stride(1), y_MN.stride(0),
        **_shape_constexprs(
            config, bits=operands.bits, decoder=operands.levels.decoder, rank=operands.rank,
            level_unit=operands.levels.unit,
        ),
        EVEN_M=m % config.block_m == 0, EVEN_N=operands.n % config.block_n == 0,
        EVEN_K=operands.k % k_block(operands.bits) == 0, HAS_BIAS=bias_N is not None,
        num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
    return y_MN


def signature(
    config: ScaleTileGemmConfig,
    *,
    bits: int,
    decoder: str,
    rank: int = 16,
    x_dtype: torch.dtype = torch.bfloat16,
    scale_dtype: torch.dtype = torch.float16,
    level_unit: float = 1.0,
    has_bias: bool = False,
) -> KernelSignature:
    """The specialisation for contiguous x and ragged-free shapes, as `launch` runs it."""
    return KernelSignature(
        kernel=joined_gemm_kernel if config.form == "joined" else split_gemm_kernel,
        types={
            "packed_ptr": "*i16", "a_ptr": pointer(scale_dtype), "b_ptr": pointer(scale_dtype),
            "x_ptr": pointer(x_dtype), "bias_ptr": pointer(x_dtype), "y_ptr": pointer(x_dtype),
            "table_ptr": table_pointer(decode_dtype(x_dtype, decoder), decoder),
            "M": "i32", "N": "i32", "K": "i32", "k_blocks": "i32", "x_stride_m": "i32", "x_stride_k": "i32",
            "y_stride_m": "i32",
        },
        constexprs={
            **_shape_constexprs(config, bits=bits, decoder=decoder, rank=rank, level_unit=level_unit),
            "EVEN_M": True, "EVEN_N": True, "EVEN_K": True, "HAS_BIAS": has_bias,
        },
        divisible_by_16=frozenset({"M", "N", "K", "x_stride_m", "y_stride_m"}),
        ones=frozenset({"x_stride_k"}),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        weights_per_iteration=config.block_n * k_block(bits),
    )  # fmt: skip


def _shape_constexprs(
    config: ScaleTileGemmConfig, *, bits: int, decoder: str, rank: int, level_unit: float
) -> Mapping[str, Any]:
    return {
        "RANK": rank,
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BLOCKS_K": 1,
        "BITS": bits,
        "DECODER": decoder,
        "LEVEL_UNIT": level_unit,
        "SCALE_IN_FP16": config.scale_in_fp16,
    }
