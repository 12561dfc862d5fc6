"""Launch of the backward kernels of a LoRDS layer with frozen codes."""

from dataclasses import dataclass

import torch
import triton

from lords_bench.errors import UsageError
from lords_bench.kernels.common.gpu import gpu_of, is_compiled_on
from lords_bench.kernels.common.operands import LordsOperands
from lords_bench.kernels.common.support import Support, activation_support, no, require_matrix
from lords_bench.kernels.peft_backward.kernel import factor_gradients_kernel, input_gradient_kernel
from lords_bench.kernels.peft_backward.space import (
    FactorGradientsConfig,
    InputGradientConfig,
    factor_gradients_default,
    input_gradient_default,
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FactorGradients:
    """fp32 gradients of the factors, of their padded rank: dA (R, K) and dB (N, R)."""

    da_RK: torch.Tensor
    db_NR: torch.Tensor


def supports(operands: LordsOperands, x_dtype: torch.dtype, dy_dtype: torch.dtype) -> Support:
    """Activations and output gradients of one dtype; float32 through the portable decoder only."""
    if x_dtype != dy_dtype:
        return no(f"x is {x_dtype} and dy {dy_dtype}; cast one of them")
    return activation_support(x_dtype, operands.levels)


def input_gradient_supports(operands: LordsOperands, dtype: torch.dtype) -> Support:
    """As `supports`; float32 in the interpreter only."""
    if dtype == torch.float32 and is_compiled_on(operands.packed.device):
        return no("dX of float32 tokens has no tensor core to run on; use dequantize and a dense matmul")
    return supports(operands, dtype, dtype)


def factor_gradients(
    dy_MN: torch.Tensor,
    x_MK: torch.Tensor,
    operands: LordsOperands,
    *,
    config: FactorGradientsConfig | None = None,
) -> FactorGradients:
    """Gradients dB = dS Aᵀ and dA = Bᵀ dS with dS = (dYᵀ X) ∘ levels[codes]; any strides.

    Raises:
        UsageError: a problem that `supports` refuses.
    """
    require_matrix(x_MK, operands.k, operands.packed.device)
    require_matrix(dy_MN, operands.n, operands.packed.device, name="dy")
    if x_MK.shape[0] != dy_MN.shape[0]:
        raise UsageError(f"x has {x_MK.shape[0]} tokens and dy {dy_MN.shape[0]}; they must be of the same step")
    support = supports(operands, x_MK.dtype, dy_MN.dtype)
    if not support.ok:
        raise UsageError(support.reason)
    dy_MN, x_MK = with_near_columns(dy_MN), with_near_columns(x_MK)
    in_float32 = x_MK.dtype == torch.float32
    config = config or factor_gradients_default(bits=operands.bits, gpu=gpu_of(x_MK.device), in_float32=in_float32)
    n, k, rank, device = operands.n, operands.k, operands.rank, x_MK.device
    row_tiles = triton.cdiv(n, config.block_n)
    if config.atomic:
        da_parts = torch.zeros(1, rank, k, dtype=torch.float32, device=device)
        db_parts = torch.zeros(1, n, rank, dtype=torch.float32, device=device)
    else:
        da_parts = torch.empty(row_tiles, rank, k, dtype=torch.float32, device=device)
        db_parts = torch.empty(operands.k_blocks, n, rank, dtype=torch.float32, device=device)
    factor_gradients_kernel[(row_tiles, operands.k_blocks)](
        operands.packed, dy_MN, x_MK, operands.a_RK, operands.b_NR, da_parts, db_parts, operands.levels.words,
        x_MK.shape[0], n, k, operands.k_blocks, dy_MN.stride(0), dy_MN.stride(1), x_MK.stride(0), x_MK.stride(1),
        RANK=rank, BLOCK_M=config.block_m, BLOCK_N=config.block_n, BITS=operands.bits,
        DECODER=operands.levels.decoder, LEVEL_UNIT=operands.levels.unit, EVEN_N=n % config.block_n == 0,
        ATOMIC=config.atomic, num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
    return FactorGradients(da_RK=da_parts.sum(0), db_NR=db_parts.sum(0))


def input_gradient(
    dy_MN: torch.Tensor,
    operands: LordsOperands,
    *,
    config: InputGradientConfig | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """dX_MK = dY_MN @ W_NK in the dtype of dY; any strides, `out` with contiguous rows.

    Raises:
        UsageError: a problem that `input_gradient_supports` refuses.
    """
    require_matrix(dy_MN, operands.n, operands.packed.device, name="dy")
    support = input_gradient_supports(operands, dy_MN.dtype)
    if not support.ok:
        raise UsageError(support.reason)
    m = dy_MN.shape[0]
    dx_MK = torch.empty(m, operands.k, dtype=dy_MN.dtype, device=dy_MN.device) if out is None else out
    if dx_MK.numel() == 0:
        return dx_MK
    dy_MN = with_near_columns(dy_MN)
    config = config or input_gradient_default(bits=operands.bits, gpu=gpu_of(dy_MN.device))
    input_gradient_kernel[(operands.k_blocks, triton.cdiv(m, config.block_m))](
        operands.packed, dy_MN, operands.a_RK, operands.b_NR, dx_MK, operands.levels.words,
        m, operands.n, operands.k, operands.k_blocks, dy_MN.stride(0), dy_MN.stride(1), dx_MK.stride(0),
        RANK=operands.rank, BLOCK_M=config.block_m, BLOCK_N=config.block_n, BITS=operands.bits,
        DECODER=operands.levels.decoder, LEVEL_UNIT=operands.levels.unit, EVEN_N=operands.n % config.block_n == 0,
        num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
    return dx_MK


def with_near_columns(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix, copied if its last column lies 2^31 elements or more behind its first: that product is 32-bit."""
    far = (matrix.shape[1] - 1) * matrix.stride(1) >= 1 << 31
    return matrix.contiguous() if far else matrix
