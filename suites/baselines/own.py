"""Ways of this project: LoRDS through its operator or one kernel, block formats through the same decoders, dense.

On a CPU there are no fused kernels: LoRDS runs the reference arithmetic of its operator, block formats dequantize with
the reference and multiply.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from lords_bench.errors import UsageError
from lords_bench.kernel_check import CheckCase, expected_and_bound
from lords_bench.kernels.common.prepared import PreparedWeight, forced_decoder, prepare
from lords_bench.kernels.common.prepared_blocks import LoraAdapter, PreparedBlockwise, prepare_blockwise
from lords_bench.products.lookup import Found
from lords_bench.products.ops import lords_matmul
from lords_bench.products.registry import KERNELS, config_of, named_kernel
from lords_bench.products.route import served_by
from lords_bench.products.routes import preferred
from lords_bench.records.tuned import Choice
from lords_bench.suites.baselines.problem import Expected, LayerProblem, LordsTensors, Way, expected_of


def dense(problem: LayerProblem) -> Way:
    """The dense weight and torch's own matmul: cuBLAS on a GPU."""
    weight_NK = problem.weight_NK
    return Way(
        kernel="torch.nn.functional.linear" + (" (cuBLAS)" if problem.device.type == "cuda" else ""),
        operands=weight_NK,
        apply=lambda operands, x_MK: linear(x_MK, operands),
        # cuBLAS may round partial sums of a split K to the result's dtype.
        expected=expected_of(weight_NK.double, result=problem.dtype, roundings=2, compute=problem.dtype),
        stored_bytes=weight_NK.nbytes,
        config_origin="library",
    )


def lords(problem: LayerProblem) -> Way:
    """LoRDS as a model calls it: the operator picks the kernel."""
    weight = prepare(problem.lords, problem.dtype)
    found = served_by(problem.case.m, weight)
    name = found.choice.kernel
    return Way(
        kernel=name,
        operands=weight,
        apply=lambda operands, x_MK: lords_matmul(x_MK, operands),
        expected=_lords_expected(name, problem, weight),
        stored_bytes=_lords_bytes(problem.lords),
        config=found.choice.settings,
        config_origin=found.origin,
    )


def lords_kernel(problem: LayerProblem, name: str) -> Way:
    """LoRDS through one kernel, whether or not it is the one that the operator would pick.

    Raises:
        UsageError: unknown kernel, or one that does not take the problem; the message says why.
    """
    kernel, weight = named_kernel(name), prepare(problem.lords, problem.dtype)
    support = kernel.supports(problem.case.m, weight, problem.dtype)
    if not support.ok:
        raise UsageError(support.reason or f"{name} does not take the problem")
    return Way(
        kernel=name,
        operands=weight,
        apply=lambda operands, x_MK: kernel.launch(x_MK, operands, None, None),
        expected=_lords_expected(name, problem, weight),
        stored_bytes=_lords_bytes(problem.lords),
        config_origin="formula",
    )


def nf_block(problem: LayerProblem) -> Way:
    """NormalFloat blocks through the kernel that serves the number of tokens: fused, or for many dequantize + matmul.

    Raises:
        UsageError: no GPU.
    """
    return _routed_blocks(problem, _nf_weight(problem), _nf_expected(problem), _stored_bytes(problem.blocks))


def int_block(problem: LayerProblem) -> Way:
    """Integer groups with zero points through the same kernels.

    Raises:
        UsageError: no GPU.
    """
    _require_gpu(problem)
    weight, bits = problem.integers, problem.case.bits
    # (code − zero) · scale = (level − zero/half + 1) · (scale · half) with levels (code − half)/half.
    half = 1 << (bits - 1)
    levels_L = (torch.arange(1 << bits) - half) / half
    prepared = prepare_blockwise(
        weight.packed, weight.scales() * half, levels_L, k=problem.case.k, bits=bits, block=problem.case.block,
        dtype=problem.dtype, decoder=forced_decoder(problem.dtype) or "uniform",
        zero_NG=weight.zeros().float() / half - 1,
    )  # fmt: skip
    expected = expected_of(
        lambda: weight.dequantize(torch.float64), result=problem.dtype, roundings=4, compute=problem.dtype
    )
    return _routed_blocks(problem, prepared, expected, _stored_bytes(weight))


def nf_dequantize(problem: LayerProblem) -> Way:
    """NormalFloat blocks dequantized to a scratch matrix, then a dense matmul."""
    dtype = problem.dtype
    if problem.device.type == "cpu":
        return Way(
            kernel="reference dequantize + torch.nn.functional.linear",
            operands=problem.blocks,
            apply=lambda operands, x_MK: linear(x_MK, operands.dequantize(dtype)),
            expected=_nf_expected(problem),
            stored_bytes=_stored_bytes(problem.blocks),
        )
    return _block_way(
        Found(choice=Choice(kernel=preferred("blockwise", None)[0]), origin="formula"),
        _nf_weight(problem),
        _nf_expected(problem),
        _stored_bytes(problem.blocks),
    )


def qlora_fused(problem: LayerProblem) -> Way:
    """QLoRA at its best: the base product that serves the number of tokens, the adapter in one or two launches more.

    The GEMM takes the second half of the adapter with it; elsewhere an `addmm` adds it.
    """
    base, (a_RK, b_NR) = _best_blocks(problem), problem.draw_adapter()
    apply, kernel = base.apply, KERNELS.get(base.kernel)

    def fused(operands: Any, x_MK: Tensor) -> Tensor:
        weight, a, b = operands
        return torch.addmm(apply(weight, x_MK), x_MK @ a.t(), b.t(), alpha=LORA_SCALING)

    def in_one(operands: Any, x_MK: Tensor) -> Tensor:
        assert with_adapter is not None
        weight, a, b = operands
        adapted = dataclasses.replace(weight, adapter=LoraAdapter(a_RK=a, b_NR=b, scaling=LORA_SCALING))
        return with_adapter(x_MK, adapted, None, config_of(base.kernel, base.config))

    with_adapter = None if kernel is None else kernel.with_adapter(b_NR.shape[1])
    return Way(
        kernel=f"matmul + {base.kernel} with adapter" if with_adapter else f"{base.kernel} + matmul + addmm",
        operands=(base.operands, a_RK, b_NR),
        apply=in_one if with_adapter else fused,
        expected=adapter_expected(problem, problem.blocks.dequantize, a_RK, b_NR),
        stored_bytes=base.stored_bytes + a_RK.nbytes + b_NR.nbytes,
        config=base.config,
        config_origin=base.config_origin,
    )


def qlora_merged(problem: LayerProblem) -> Way:
    """The adapter merged into the weight and quantized again: NF blocks alone, of other quality than the adapter."""
    base = _best_blocks(problem)
    return dataclasses.replace(base, kernel=f"{base.kernel} (merged)")


# LoRA's α/r at PEFT's and QLoRA's usual α = 2r.
LORA_SCALING = 2.0


def adapter_expected(
    problem: LayerProblem, dequantize: Any, a_RK: Tensor, b_NR: Tensor, *, compute: torch.dtype | None = None
) -> Expected:
    """`Way.expected` of a weight with a LoRA adapter, every step rounded to `compute` (None: the dtype of x)."""

    def extra(x_MK: Tensor) -> tuple[Tensor, Tensor]:
        a, b = a_RK.double(), b_NR.double()
        small_MR, small_abs_MR = x_MK @ a.t(), x_MK.abs() @ a.abs().t()
        return LORA_SCALING * small_MR @ b.t(), LORA_SCALING * small_abs_MR @ b.abs().t()

    return expected_of(
        lambda: dequantize(torch.float64),
        result=problem.dtype,
        roundings=7,
        compute=compute or problem.dtype,
        extra_MN=extra,
    )


def _best_blocks(problem: LayerProblem) -> Way:
    return nf_dequantize(problem) if problem.device.type == "cpu" else nf_block(problem)


def _routed_blocks(problem: LayerProblem, weight: PreparedBlockwise, expected: Expected, stored_bytes: int) -> Way:
    return _block_way(served_by(problem.case.m, weight), weight, expected, stored_bytes)


def _block_way(found: Found, weight: PreparedBlockwise, expected: Expected, stored_bytes: int) -> Way:
    choice = found.choice
    kernel, config = named_kernel(choice.kernel), config_of(choice.kernel, choice.settings)
    return Way(
        kernel=choice.kernel,
        operands=weight,
        apply=lambda operands, x_MK: kernel.launch(x_MK, operands, None, config),
        expected=expected,
        stored_bytes=stored_bytes,
        config=choice.settings,
        config_origin=found.origin,
    )


def _nf_weight(problem: LayerProblem) -> PreparedBlockwise:
    _require_gpu(problem)
    weight = problem.blocks
    return prepare_blockwise(
        weight.packed, weight.scales(), weight.levels(), k=problem.case.k, bits=problem.case.bits,
        block=problem.case.block, dtype=problem.dtype,
    )  # fmt: skip


def _nf_expected(problem: LayerProblem) -> Expected:
    # Level, scale, their product and a partial sum may each be rounded to the dtype of x.
    return expected_of(
        lambda: problem.blocks.dequantize(torch.float64), result=problem.dtype, roundings=4, compute=problem.dtype
    )


def _lords_expected(kernel: str, problem: LayerProblem, weight: PreparedWeight) -> Expected:
    tensors = problem.lords

    def expected(x_MK: Tensor) -> tuple[Tensor, Tensor]:
        case = CheckCase(
            name=problem.case.case_id, codes_NK=tensors.codes_NK, packed=tensors.packed, b_NR=tensors.b_NR,
            a_RK=tensors.a_RK, levels_L=tensors.levels_L, bits=tensors.bits, x_MK=x_MK.to(problem.dtype),
            bias_N=torch.zeros(problem.case.n, device=problem.device),
        )  # fmt: skip
        return expected_and_bound(kernel, case, weight)

    return expected


def _lords_bytes(tensors: LordsTensors) -> int:
    # The levels are those of a codebook known by name: nothing is stored for them.
    return tensors.packed.nbytes + tensors.b_NR.nbytes + tensors.a_RK.nbytes


def _stored_bytes(weight: Any) -> int:
    return sum(int(tensor.nbytes) for tensor in weight.tensors().values())


def _require_gpu(problem: LayerProblem) -> None:
    if problem.device.type == "cpu":
        raise UsageError("the fused kernel needs a GPU; on a CPU see the row of dequantize + matmul")
