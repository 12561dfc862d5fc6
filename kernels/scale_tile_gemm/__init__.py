"""LoRDS matmul for many tokens, in one kernel: decode, scale and multiply."""

from collections.abc import Iterator

from lords_bench.kernels.common.budget import FUSED
from lords_bench.kernels.common.entry import Entry, Kernel, Roundings, Tuning, WorkForm, kernel_module
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.prepared import operands_of
from lords_bench.kernels.common.static_case import BITS, FACTOR_BITS, Launched, StaticCase, layer_problem

TUNING = Tuning(
    config=lambda: kernel_module("scale_tile_gemm.space").ScaleTileGemmConfig,
    space=lambda _problem: kernel_module("scale_tile_gemm.space").space(),
    rule=lambda problem, gpu: kernel_module("scale_tile_gemm.space").default_config(
        problem.m_bucket, bits=problem.bits, rank=problem.rank, decoder=problem.decoder, gpu=gpu
    ),
    work=WorkForm(grid="tiles", issue=(4.7, 4.7, 4.7)),
)


def _cases(gpu: Gpu) -> Iterator[StaticCase]:
    sizes = (64, 128) if gpu.has_wgmma else (32, 64)
    for bits, m in ((4, sizes[0]), *((bits, sizes[1]) for bits in BITS)):
        problem = layer_problem(gpu, m, bits)
        yield StaticCase(
            kernel="scale_tile_gemm",
            variant=f"{bits} bit M={m} {TUNING.rule(problem, gpu).form}",
            target=gpu.arch,
            budget=FUSED,
            launched=Launched(kernel="scale_tile_gemm", problem=problem),
            bits_per_weight=bits + FACTOR_BITS,
        )


KERNEL = Entry(
    name="scale_tile_gemm",
    kernels=(
        Kernel(
            name="scale_tile_gemm",
            takes=lambda _m, weight, dtype: kernel_module("scale_tile_gemm.launch").supports(
                operands_of(weight), dtype
            ),
            launch=lambda x_MK, weight, bias_N, config: kernel_module("scale_tile_gemm.launch").launch(
                x_MK, operands_of(weight), bias_N=bias_N, config=config
            ),
            roots=("kernels.scale_tile_gemm.launch:launch", "kernels.scale_tile_gemm.space:default_config"),
            # S, and its product with a level.
            roundings=Roundings(count=2, of_table=True),
            tuning=TUNING,
        ),
    ),
    cases=_cases,
    loops=("split_gemm_kernel", "joined_gemm_kernel"),
)
