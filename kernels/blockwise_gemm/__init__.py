"""The block-wise baseline above 64 tokens, in the tile forms of the LoRDS GEMM."""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from torch import Tensor

from lords_bench.kernels.common import static_case as static
from lords_bench.kernels.common.budget import FUSED
from lords_bench.kernels.common.entry import Entry, Kernel, Roundings, Tuning, WorkForm, kernel_module
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.prepared_blocks import PreparedBlockwise

TUNING = Tuning(
    config=lambda: kernel_module("blockwise_gemm.space").BlockwiseGemmConfig,
    space=lambda _problem: kernel_module("blockwise_gemm.space").space(),
    rule=lambda problem, gpu: kernel_module("blockwise_gemm.space").default_config(
        problem.m_bucket, bits=problem.bits, decoder=problem.decoder, gpu=gpu
    ),
    # A scale that is read instead of multiplied saves its conversion.
    work=WorkForm(grid="tiles", issue=(4.5, 4.5, 4.5)),
)


def _with_adapter(x_MK: Tensor, weight: PreparedBlockwise, bias_N: Tensor | None, config: Any) -> Tensor:
    gemm, adapter = kernel_module("blockwise_gemm.launch"), weight.adapter
    assert adapter is not None
    lora = gemm.LoraTerm(a_RK=adapter.a_RK, b_NR=adapter.b_NR, scaling=adapter.scaling)
    y_MN: Tensor = gemm.launch(x_MK, weight.operands, bias_N=bias_N, config=config, lora=lora)
    return y_MN


def _cases(gpu: Gpu) -> Iterator[static.StaticCase]:
    def case(m: int, bits: int, *, block: int = static.BLOCK, **fields: Any) -> static.StaticCase:
        problem = static.layer_problem(gpu, m, bits, block=block, **fields)
        exact = " exact levels" if problem.decoder == "table16" else ""
        return static.StaticCase(
            kernel="blockwise_gemm",
            variant=f"{static.block_format(problem)} M={m} {TUNING.rule(problem, gpu).form}{exact}",
            target=gpu.arch,
            budget=FUSED,
            launched=static.Launched(kernel="blockwise_gemm", problem=problem),
            bits_per_weight=bits + static.BLOCK_SCALE_BITS * static.BLOCK / block * (1 + problem.zero_points),
        )

    yield from (case(64, bits) for bits in static.BITS)
    if not gpu.is_amd:
        yield case(64, 4, decoder="uniform", zero_points=True)
        yield case(64, 4, block=2 * static.BLOCK)
        # The exact levels of a checkpoint of other libraries, off the 7-bit grid.
        yield case(128, 4, decoder="table16")


KERNEL = Entry(
    name="blockwise_gemm",
    kernels=(
        Kernel(
            name="blockwise_gemm",
            weight="blockwise",
            takes=lambda _m, weight, dtype: kernel_module("blockwise_gemm.launch").supports(weight.operands, dtype),
            launch=lambda x_MK, weight, bias_N, config: kernel_module("blockwise_gemm.launch").launch(
                x_MK, weight.operands, bias_N=bias_N, config=config
            ),
            roots=("kernels.blockwise_gemm.launch:launch", "kernels.blockwise_gemm.space:default_config"),
            # The scale, and its product with a level; weights are scaled one by one.
            roundings=Roundings(count=2, of_table=True, of_zero=2),
            tuning=TUNING,
            with_adapter=lambda rank: (
                _with_adapter if rank <= kernel_module("blockwise_gemm.launch").MAX_LORA_RANK else None
            ),
        ),
    ),
    cases=_cases,
    misses=MappingProxyType(
        {
            # On CDNA a launch takes more scalar registers than there are, and one to six of them are kept in lanes of
            # vector registers: no memory is touched.
            ("nf4 G=64 M=64 split", "gfx942"): "4 registers spilled, 0 B of scratch memory",
            ("nf3 G=64 M=64 split", "gfx942"): "6 registers spilled, 0 B of scratch memory",
            ("nf2 G=64 M=64 split", "gfx942"): "6 registers spilled, 0 B of scratch memory",
            ("nf4 G=64 M=64 split", "gfx950"): "2 registers spilled, 0 B of scratch memory",
            ("nf2 G=64 M=64 split", "gfx950"): "1 registers spilled, 0 B of scratch memory",
            # On RDNA 3 a K block of 256 leaves no registers: 32 tokens in two stages do not spill, 64 do.
            ("nf3 G=64 M=64 split", "gfx1100"): "74 registers spilled, 300 B of scratch memory",
        }
    ),
    loops=("blockwise_gemm_kernel",),
)
