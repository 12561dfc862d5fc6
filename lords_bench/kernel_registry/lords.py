"""The kernels of a LoRDS weight: from a `PreparedWeight` to each kernel's own operands and launch."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lords_bench.kernel_registry.kernel import Cost, kernel_module, no, yes
from lords_bench.prepared import DECODERS, MAX_KERNEL_RANK, REFERENCE, PreparedWeight
from lords_bench.reference import products

if TYPE_CHECKING:
    from lords_bench.kernels.common.operands import LordsOperands
    from lords_bench.kernels.common.support import Support

# Keys of `PreparedWeight.memo`.
_OPERANDS = "operands"
_RANK_EXPANDED = "rank_expanded"


def lords_operands(weight: PreparedWeight) -> "LordsOperands":
    """The weight as the Triton kernels take it; no tensor is touched, and a weight's are made once."""
    found: LordsOperands | None = weight.memo.get(_OPERANDS)
    if found is None:
        found = weight.memo[_OPERANDS] = _make_operands(weight)
    return found


def _make_operands(weight: PreparedWeight) -> "LordsOperands":
    operands = kernel_module("common.operands")
    assert weight.words is not None
    assert weight.dtype is not None
    levels = operands.LevelTable(
        decoder=DECODERS[weight.decoder],
        words=weight.words,
        dtype=weight.dtype,
        integer_levels=weight.grid_bytes,
        unit=weight.unit,
    )
    found: LordsOperands = operands.LordsOperands(
        packed=weight.packed,
        b_NR=weight.b_NR,
        a_RK=weight.a_RK,
        levels=levels,
        n=weight.packed.shape[0],
        k=weight.a_RK.shape[1],
        bits=weight.bits,
        rank=weight.b_NR.shape[1],
    )
    return found


def input_gradient(dy_MN: Tensor, weight: PreparedWeight) -> Tensor:
    """dx_MK = dy_MN @ W in the dtype of dy: W through a scratch matrix where there are kernels."""
    if weight.decoder == REFERENCE:
        return products.matmul_grad_input(dy_MN, weight.packed, weight.b_NR, weight.a_RK, weight.levels_L, weight.bits)
    w_NK: Tensor = kernel_module("dequantize.launch").dequantize(lords_operands(weight), dy_MN.dtype)
    return dy_MN @ w_NK


def factor_gradients(dy_MN: Tensor, x_MK: Tensor, weight: PreparedWeight) -> tuple[Tensor, Tensor]:
    """dB_NR and dA_RK in the dtypes of B and A, deterministic."""
    if weight.decoder == REFERENCE:
        return products.matmul_grad_factors(
            dy_MN, x_MK, weight.packed, weight.b_NR, weight.a_RK, weight.levels_L, weight.bits
        )
    found = kernel_module("peft_backward.launch").factor_gradients(dy_MN, x_MK, lords_operands(weight))
    return found.db_NR.to(weight.b_NR.dtype), found.da_RK.to(weight.a_RK.dtype)


def _prepared(weight: PreparedWeight) -> "Support":
    if weight.decoder == REFERENCE:
        return no(
            f"the weight is prepared for the reference: on a CPU, in float64, or of a rank above {MAX_KERNEL_RANK}"
        )
    return yes()


def rank_expanded_supports(m: int, weight: PreparedWeight, dtype: torch.dtype) -> "Support":
    """Few tokens, levels on the 7-bit grid, A not trained."""
    if not _prepared(weight).ok:
        return _prepared(weight)
    if weight.a_columns is None:
        return no("A is trained, or the levels are off the 7-bit grid; use scale_tile")
    found: Support = kernel_module("rank_expanded.launch").supports(m, lords_operands(weight), dtype)
    return found


def rank_expanded_launch(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, config: Any) -> Tensor:
    """Decode by exact integer sums."""
    kernel = kernel_module("rank_expanded.launch")
    operands = weight.memo.get(_RANK_EXPANDED)
    if operands is None:
        operands = kernel.RankExpandedOperands(lords=lords_operands(weight), a_columns=weight.a_columns)
        weight.memo[_RANK_EXPANDED] = operands
    y_MN: Tensor = kernel.launch(x_MK, operands, bias_N=bias_N, config=config, arrivals=weight.counters)
    return y_MN


def scale_tile_supports(m: int, weight: PreparedWeight, dtype: torch.dtype) -> "Support":
    """Few tokens."""
    if not _prepared(weight).ok:
        return _prepared(weight)
    found: Support = kernel_module("scale_tile.launch").supports(m, lords_operands(weight), dtype)
    return found


def scale_tile_launch(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, config: Any) -> Tensor:
    """S by tensor cores in the layout of the operand."""
    kernel = kernel_module("scale_tile.launch")
    y_MN: Tensor = kernel.launch(x_MK, lords_operands(weight), bias_N=bias_N, config=config, arrivals=weight.counters)
    return y_MN


def scale_tile_gemm_supports(_m: int, weight: PreparedWeight, dtype: torch.dtype) -> "Support":
    """Any number of tokens."""
    if not _prepared(weight).ok:
        return _prepared(weight)
    found: Support = kernel_module("scale_tile_gemm.launch").supports(lords_operands(weight), dtype)
    return found


def scale_tile_gemm_launch(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, config: Any) -> Tensor:
    """The same for many tokens."""
    kernel = kernel_module("scale_tile_gemm.launch")
    y_MN: Tensor = kernel.launch(x_MK, lords_operands(weight), bias_N=bias_N, config=config)
    return y_MN


def dequantize_supports(_m: int, weight: PreparedWeight, _dtype: torch.dtype) -> "Support":
    """Any number of tokens."""
    return _prepared(weight)


def dequantize_launch(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, config: Any) -> Tensor:
    """W to memory, then a dense product."""
    w_NK = kernel_module("dequantize.launch").dequantize(lords_operands(weight), x_MK.dtype, config=config)
    return torch.nn.functional.linear(x_MK, w_NK, bias_N)


def reference_supports(_m: int, _weight: PreparedWeight, _dtype: torch.dtype) -> "Support":
    """Everything."""
    return yes()


def reference_launch(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, _config: Any) -> Tensor:
    """Plain PyTorch, W in panels."""
    packed, levels_L = weight.packed, weight.levels_L
    return products.matmul(x_MK, packed, weight.b_NR, weight.a_RK, levels_L, weight.bits, bias_N=bias_N)


def product_cost(m: int, weight: PreparedWeight, dtype: torch.dtype) -> Cost:
    """Codes, factors and x once, and the product alone: the same for every kernel, however much more it does."""
    tensors = (weight.packed, weight.b_NR, weight.a_RK)
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return Cost(bytes_moved=stored + m * weight.k * dtype.itemsize, flops=2 * m * weight.n * weight.k)
