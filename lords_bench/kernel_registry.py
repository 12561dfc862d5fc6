"""`KERNELS`: every kernel by name, behind one interface; a product in plain torch is a kernel too.

A kernel says whether it takes a problem and why not (`supports`), what could be tuned (`space`), what it costs at
least (`cost`), and runs it (`launch`). To add one: a folder in `kernels/`, an entry here, a case in `static/cases.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lords_bench.errors import UsageError
from lords_bench.prepared import DECODERS, REFERENCE, PreparedWeight
from lords_bench.reference import products

if TYPE_CHECKING:
    from lords_bench.kernels.common.operands import LordsOperands
    from lords_bench.kernels.common.support import Support


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a product cannot do without: bytes between device memory and chip, and multiply-adds counted as two."""

    bytes_moved: int
    flops: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """One way to compute y_MN = x_MK @ W_NKᵀ + bias for a prepared weight.

    Attributes:
        name: key in `KERNELS`.
        supports: (M, weight, dtype of x) to whether it takes the problem, and why not.
        space: weight to the configurations worth timing; every one is right for every shape.
        launch: (x_MK, weight, bias_N, config) to y_MN; `config` None is the rule for shapes that were not tuned.
        cost: (M, weight, dtype of x) to a lower bound of traffic and arithmetic.
    """

    name: str
    supports: Callable[[int, PreparedWeight, torch.dtype], "Support"]
    space: Callable[[PreparedWeight], tuple[Any, ...]]
    launch: Callable[[Tensor, PreparedWeight, Tensor | None, Any], Tensor]
    cost: Callable[[int, PreparedWeight, torch.dtype], Cost]


def lords_operands(weight: PreparedWeight) -> "LordsOperands":
    """The weight as the Triton kernels take it; no tensor is touched."""
    operands = _module("common.operands")
    assert weight.words is not None
    assert weight.dtype is not None
    levels = operands.LevelTable(
        decoder=DECODERS[weight.decoder],
        words=weight.words,
        dtype=weight.dtype,
        grid7_bytes=weight.grid_bytes,
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
    w_NK: Tensor = _module("dequantize.launch").dequantize(lords_operands(weight), dy_MN.dtype)
    return dy_MN @ w_NK


def factor_gradients(dy_MN: Tensor, x_MK: Tensor, weight: PreparedWeight) -> tuple[Tensor, Tensor]:
    """dB_NR and dA_RK in the dtypes of B and A, deterministic."""
    if weight.decoder == REFERENCE:
        return products.matmul_grad_factors(
            dy_MN, x_MK, weight.packed, weight.b_NR, weight.a_RK, weight.levels_L, weight.bits
        )
    found = _module("peft_backward.launch").factor_gradients(dy_MN, x_MK, lords_operands(weight))
    return found.db_NR.to(weight.b_NR.dtype), found.da_RK.to(weight.a_RK.dtype)


@cache
def _module(name: str) -> Any:
    """A module of the kernels, imported at its first use: it needs Triton, and this module must not."""
    return import_module(f"lords_bench.kernels.{name}")


def _yes() -> "Support":
    found: Support = _module("common.support").YES
    return found


def _no(reason: str) -> "Support":
    found: Support = _module("common.support").no(reason)
    return found


def _prepared(weight: PreparedWeight) -> "Support":
    if weight.decoder == REFERENCE:
        return _no("the weight is prepared for the reference: on a CPU, in float64, or of a rank above 64")
    return _yes()


def _rank_expanded_supports(m: int, weight: PreparedWeight, dtype: torch.dtype) -> "Support":
    if not _prepared(weight).ok:
        return _prepared(weight)
    if weight.a_columns is None:
        return _no("A is trained, or the levels are off the 7-bit grid; use scale_tile")
    found: Support = _module("rank_expanded.launch").supports(m, lords_operands(weight), dtype)
    return found


def _rank_expanded_launch(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, config: Any) -> Tensor:
    kernel = _module("rank_expanded.launch")
    operands = kernel.RankExpandedOperands(lords=lords_operands(weight), a_columns=weight.a_columns)
    y_MN: Tensor = kernel.launch(x_MK, operands, bias_N=bias_N, config=config, arrivals=weight.counters)
    return y_MN


def _scale_tile_supports(m: int, weight: PreparedWeight, dtype: torch.dtype) -> "Support":
    if not _prepared(weight).ok:
        return _prepared(weight)
    found: Support = _module("scale_tile.launch").supports(m, lords_operands(weight), dtype)
    return found


def _scale_tile_launch(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, config: Any) -> Tensor:
    kernel = _module("scale_tile.launch")
    y_MN: Tensor = kernel.launch(x_MK, lords_operands(weight), bias_N=bias_N, config=config, arrivals=weight.counters)
    return y_MN


def _scale_tile_gemm_supports(_m: int, weight: PreparedWeight, dtype: torch.dtype) -> "Support":
    if not _prepared(weight).ok:
        return _prepared(weight)
    found: Support = _module("scale_tile_gemm.launch").supports(lords_operands(weight), dtype)
    return found


def _scale_tile_gemm_launch(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, config: Any) -> Tensor:
    if config is None:
        config = _module("scale_tile_gemm.space").default_config(x_MK.shape[0], is_hopper=_is_hopper(x_MK.get_device()))
    kernel = _module("scale_tile_gemm.launch")
    y_MN: Tensor = kernel.launch(x_MK, lords_operands(weight), bias_N=bias_N, config=config)
    return y_MN


@cache
def _is_hopper(device: int) -> bool:
    """Of a device index; -1 is the CPU, where Triton interprets."""
    return device >= 0 and torch.version.hip is None and torch.cuda.get_device_capability(device)[0] == 9


def _dequantize_supports(_m: int, weight: PreparedWeight, _dtype: torch.dtype) -> "Support":
    return _prepared(weight)


def _dequantize_launch(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, config: Any) -> Tensor:
    w_NK = _module("dequantize.launch").dequantize(lords_operands(weight), x_MK.dtype, config=config)
    return torch.nn.functional.linear(x_MK, w_NK, bias_N)


def _reference_supports(_m: int, _weight: PreparedWeight, _dtype: torch.dtype) -> "Support":
    return _yes()


def _reference_launch(x_MK: Tensor, weight: PreparedWeight, bias_N: Tensor | None, _config: Any) -> Tensor:
    packed, levels_L = weight.packed, weight.levels_L
    return products.matmul(x_MK, packed, weight.b_NR, weight.a_RK, levels_L, weight.bits, bias_N=bias_N)


def _fused_cost(m: int, weight: PreparedWeight, dtype: torch.dtype) -> Cost:
    """Codes, factors, x and y once through device memory; the product and S = B·A in arithmetic."""
    tensors = (weight.packed, weight.b_NR, weight.a_RK)
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return Cost(
        bytes_moved=stored + m * (weight.n + weight.k) * dtype.itemsize,
        flops=2 * weight.n * weight.k * (m + weight.b_NR.shape[1]),
    )


def _rank_expanded_cost(m: int, weight: PreparedWeight, dtype: torch.dtype) -> Cost:
    """Two int8 products per rank, code and token."""
    rank = weight.b_NR.shape[1]
    moved = _fused_cost(m, weight, dtype).bytes_moved
    return Cost(bytes_moved=moved, flops=2 * m * rank * weight.n * (2 * weight.k + 1))


def _dequantize_cost(m: int, weight: PreparedWeight, dtype: torch.dtype) -> Cost:
    """W in the dtype of x once more to device memory and back."""
    fused = _fused_cost(m, weight, dtype)
    return Cost(bytes_moved=fused.bytes_moved + 2 * weight.n * weight.k * dtype.itemsize, flops=fused.flops)


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "rank_expanded": Kernel(
            name="rank_expanded",
            supports=_rank_expanded_supports,
            space=lambda weight: _module("rank_expanded.space").space(bits=weight.bits),
            launch=_rank_expanded_launch,
            cost=_rank_expanded_cost,
        ),
        "scale_tile": Kernel(
            name="scale_tile",
            supports=_scale_tile_supports,
            space=lambda weight: _module("scale_tile.space").space(bits=weight.bits),
            launch=_scale_tile_launch,
            cost=_fused_cost,
        ),
        "scale_tile_gemm": Kernel(
            name="scale_tile_gemm",
            supports=_scale_tile_gemm_supports,
            space=lambda _weight: _module("scale_tile_gemm.space").space(),
            launch=_scale_tile_gemm_launch,
            cost=_fused_cost,
        ),
        "dequantize_matmul": Kernel(
            name="dequantize_matmul",
            supports=_dequantize_supports,
            space=lambda _weight: _module("dequantize.space").space(),
            launch=_dequantize_launch,
            cost=_dequantize_cost,
        ),
        "reference": Kernel(
            name="reference",
            supports=_reference_supports,
            space=lambda _weight: (None,),
            launch=_reference_launch,
            cost=_fused_cost,
        ),
    }
)


def named_kernel(name: str) -> Kernel:
    """The kernel of that name.

    Raises:
        UsageError: unknown name; the message lists the known ones.
    """
    if name not in KERNELS:
        raise UsageError(f"unknown kernel {name!r}; known: {', '.join(KERNELS)}")
    return KERNELS[name]
