"""Launch of the block-wise GEMM."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import triton

from lords_bench.errors import UsageError
from lords_bench.kernels.blockwise_gemm.kernel import blockwise_gemm_kernel
from lords_bench.kernels.blockwise_gemm.space import BlockwiseGemmConfig, default_config
from lords_bench.kernels.common.block_operands import BlockwiseOperands
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.handle import launch_ready
from lords_bench.kernels.common.layout import k_block
from lords_bench.kernels.common.operands import padded_rank
from lords_bench.kernels.common.ready import Ready, ready_call
from lords_bench.kernels.common.support import Support, require_matrix, tensor_core_support

# An adapter of more is added by a product of its own: its factor would take the registers of the sums.
MAX_LORA_RANK = 64


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoraTerm:
    """A LoRA adapter, W + scaling · B @ A, in the dtype of x and of rank 64 at most."""

    a_RK: torch.Tensor
    b_NR: torch.Tensor
    scaling: float


def supports(operands: BlockwiseOperands, dtype: torch.dtype) -> Support:
    """Any number of tokens; float32 activations in the interpreter only: at 3 bits they do not fit shared memory."""
    return tensor_core_support(dtype, operands.levels, operands.packed.device)


def launch(
    x_MK: torch.Tensor,
    operands: BlockwiseOperands,
    *,
    bias_N: torch.Tensor | None = None,
    config: BlockwiseGemmConfig | None = None,
    out: torch.Tensor | None = None,
    lora: LoraTerm | None = None,
) -> torch.Tensor:
    """y_MN = x_MK @ W_NK^T + bias, in the dtype of x. x may have any strides; `out` must have contiguous rows.

    With `lora` a small product before it makes x Aᵀ, and the kernel adds its product with Bᵀ to its sums, in fp32.

    Raises:
        UsageError: a problem that `supports` refuses.
    """
    lora_rank = 0 if lora is None else lora.b_NR.shape[1]
    ready = ready_call(_call, x_MK, operands, config, (bias_N is not None, lora_rank))
    m = x_MK.shape[0]
    y_MN = torch.empty(m, operands.n, dtype=x_MK.dtype, device=x_MK.device) if out is None else out
    if y_MN.numel() == 0:
        return y_MN
    small_MR = x_MK if lora is None else _small_product(x_MK, lora, operands.levels.unit)
    tensors = (
        operands.packed, operands.scale_NG, operands.scale_NG if operands.zero_NG is None else operands.zero_NG, x_MK,
        y_MN if bias_N is None else bias_N, y_MN, operands.levels.words, operands.shifts,
        small_MR, small_MR if lora is None else lora.b_NR.contiguous(),
    )  # fmt: skip
    integers = (m, operands.n, operands.k, operands.k_blocks, *x_MK.stride(), y_MN.stride(0), lora_rank)
    launch_ready(blockwise_gemm_kernel, ready, tensors, integers)
    return y_MN


def _call(
    x_MK: torch.Tensor,
    operands: BlockwiseOperands,
    config: BlockwiseGemmConfig | None,
    gpu: Gpu,
    variant: tuple[bool, int],
) -> Ready:
    has_bias, lora_rank = variant
    require_matrix(x_MK, operands.k, operands.packed.device)
    support = supports(operands, x_MK.dtype)
    if not support.ok:
        raise UsageError(support.reason)
    m = x_MK.shape[0]
    config = config or default_config(
        m, bits=operands.bits, decoder=operands.levels.decoder, lora_rank=lora_rank, gpu=gpu
    )
    programs = (triton.cdiv(operands.n, config.block_n), triton.cdiv(m, config.block_m))
    return Ready(grid=programs, constants=_constexprs(config, m, operands, has_bias, lora_rank), config=config, gpu=gpu)


def _small_product(x_MK: torch.Tensor, lora: LoraTerm, unit: float) -> torch.Tensor:
    """(scaling / unit) · x Aᵀ, rounded once: what the kernel multiplies its sums with comes after it."""
    unused = x_MK.new_empty(1)
    return torch.addmm(unused, x_MK, lora.a_RK.t(), beta=0, alpha=lora.scaling / unit)


def _constexprs(
    config: BlockwiseGemmConfig, m: int, operands: BlockwiseOperands, has_bias: bool, lora_rank: int
) -> Mapping[str, Any]:
    return {
        "JOINED": config.form == "joined",
        "SCALES_PER_ROW": operands.scale_NG.shape[1],
        "BLOCK": operands.block,
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BITS": operands.bits,
        "DECODER": operands.levels.decoder,
        "LEVEL_UNIT": operands.levels.unit,
        "HAS_ZERO": operands.zero_NG is not None,
        "EVEN_M": m % config.block_m == 0,
        "EVEN_N": operands.n % config.block_n == 0,
        "EVEN_K": operands.k % k_block(operands.bits) == 0,
        "HAS_BIAS": has_bias,
        "LORA_RANK": padded_rank(lora_rank) if lora_rank else 0,
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }
