"""LoRDS matmul for few tokens: the scale tile comes out of the tensor core in the operand's own layout."""

from collections.abc import Iterator
from dataclasses import asdict
from types import MappingProxyType

from lords_bench.kernels.common import static_case as static
from lords_bench.kernels.common.budget import FLOAT32, FUSED, Budget, one_tile
from lords_bench.kernels.common.entry import Entry, Kernel, Roundings, Tuning, WorkForm, kernel_module
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.prepared import operands_of

TUNING = Tuning(
    config=lambda: kernel_module("scale_tile.space").ScaleTileConfig,
    space=lambda problem: kernel_module("scale_tile.space").space(bits=problem.bits),
    rule=lambda problem, gpu: kernel_module("scale_tile.space").default_config(
        problem.m_bucket,
        problem.n,
        problem.k,
        bits=problem.bits,
        rank=problem.rank,
        gpu=gpu,
        in_float32=problem.x_dtype == "float32",
    ),
    work=WorkForm(grid="split-k", issue=(4.7, 4.7, 4.7)),
)

# At 4 bits, by whether S is accumulated in fp16: in the loop, and in all of a program with one tile.
_LIMITS = MappingProxyType({False: (4.4, 6.5), True: (3.8, 6.0)})


def _cases(gpu: Gpu) -> Iterator[static.StaticCase]:
    # On RDNA the GEMM serves few tokens at 3 bits: here 108 registers would spill.
    for bits in static.BITS:
        if not (gpu.is_rdna and bits == 3):
            yield from _cases_of(gpu, bits, 8, "bfloat16")
    if not gpu.is_amd:
        for m in (8, 16):
            yield from _cases_of(gpu, 4, m, "float16", scale_in_fp16=True)
        yield from _cases_of(gpu, 4, 16, "bfloat16")
        yield from _cases_of(gpu, 4, 8, "float32")


def _cases_of(gpu: Gpu, bits: int, m: int, dtype: str, *, scale_in_fp16: bool = False) -> Iterator[static.StaticCase]:
    def case(n: int, one: bool) -> static.StaticCase:
        fields = {"decoder": "table"} if dtype == "float32" else {}
        problem = static.layer_problem(gpu, m, bits, n=n, x_dtype=dtype, **fields)
        rule = {**asdict(TUNING.rule(problem, gpu)), "scale_in_fp16": True} if scale_in_fp16 else None
        in_loop, in_all = _LIMITS[scale_in_fp16] if bits == 4 else (None, None)
        budget = one_tile(in_all) if one else Budget(max_instructions_per_32_weights=in_loop) if in_loop else FUSED
        return static.StaticCase(
            kernel="scale_tile",
            variant=f"{bits} bit M≤{m} {'fp16 scale' if scale_in_fp16 else dtype}{static.rows_named(n)}",
            target=gpu.arch,
            budget=FLOAT32 if dtype == "float32" else budget,
            launched=static.Launched(
                kernel="scale_tile", problem=problem, settings=None if rule is None else tuple(rule.items())
            ),
            bits_per_weight=bits + static.FACTOR_BITS,
            one_tile=one and dtype != "float32",
        )

    return static.with_a_loop(gpu, case, TUNING.rule)


KERNEL = Entry(
    name="scale_tile",
    kernels=(
        Kernel(
            name="scale_tile",
            takes=lambda m, weight, dtype: kernel_module("scale_tile.launch").supports(m, operands_of(weight), dtype),
            launch=lambda x_MK, weight, bias_N, config: kernel_module("scale_tile.launch").launch(
                x_MK, operands_of(weight), bias_N=bias_N, config=config, arrivals=weight.counters
            ),
            roots=("kernels.scale_tile.launch:launch",),
            # S, and its product with a level.
            roundings=Roundings(count=2, of_table=True),
            tuning=TUNING,
        ),
    ),
    cases=_cases,
    misses=MappingProxyType(
        {
            # With one tile per program; the assembler stays at 96 registers for the price of 8 bytes.
            ("4 bit M≤8 fp16 scale", "sm_100"): "2 spill instructions, 8 B of stack, 0 B local",
            # With more than one: it stays at 168, of which six programs fit a multiprocessor.
            ("2 bit M≤8 bfloat16 N=14336", "sm_120"): "3 spill instructions, 8 B of stack, 0 B local",
        }
    ),
    loops=("scale_tile_kernel",),
)
