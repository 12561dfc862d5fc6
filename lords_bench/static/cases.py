"""The kernels as they ship, with the budget each is held to: what `lords-bench kernels --static` compiles.

A case is data: a kernel, a problem (the layer of 4096×4096 at rank 16), a target, and a configuration only where it is
not the one that the kernel's own rule picks there. What is compiled is what the kernel launches for it. Decoders in PTX
compile for NVIDIA GPUs, the portable decoder for AMD ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lords_bench.records.tuned import Problem
from lords_bench.static.launches import SM_COUNTS, Launched
from lords_bench.static.request import CompileRequest
from lords_bench.static.target import AMD_TARGETS, NVIDIA_TARGETS, named_target

if TYPE_CHECKING:
    from lords_bench.kernels.common.gpu import Gpu

RANK = 16
BITS = (4, 3, 2)
BLOCK = 64

# The layer whose configuration and factors count: 4096×4096, B and A in 16 bits at rank 16.
LAYER = 4096
# Rows of a layer that is large enough for programs of more than one tile, and so for a loop, on every GPU.
MANY_ROWS = 14336
FACTOR_BITS = RANK * 16 * 2 / LAYER
BLOCK_SCALE_BITS = 16 / BLOCK
# Tokens of a training step.
TOKENS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticCase:
    """One launch for one target, and what is asked of its machine code.

    Attributes:
        kernel: folder in `kernels/`.
        variant: what sets it apart from other cases of the kernel.
        target: name of the architecture.
        budget: name in `budget.BUDGETS`.
        launched: what is launched.
        bits_per_weight: bits read per weight, for predictions; None where memory is not what bounds the kernel.
    """

    kernel: str
    variant: str
    target: str
    budget: str
    launched: Launched
    bits_per_weight: float | None = None

    @property
    def label(self) -> str:
        """Kernel and variant."""
        return f"{self.kernel} {self.variant}"

    @property
    def request(self) -> CompileRequest:
        """To compile it."""
        return self.launched.on(named_target(self.target))


def shipped_cases(targets: tuple[str, ...] = (*NVIDIA_TARGETS, *AMD_TARGETS)) -> tuple[StaticCase, ...]:
    """Every case of the targets, kernel by kernel. Imports Triton and the kernels' rules."""
    from lords_bench.kernels.common.gpu import Gpu

    gpus = [Gpu(arch=target, sm_count=SM_COUNTS[target]) for target in targets]
    families = (
        _rank_expanded, _scale_tile, _scale_tile_gemm, _dequantize, _peft_backward, _fake_quantize, _blockwise,
        _blockwise_gemm, _qlora,
    )  # fmt: skip
    return tuple(case for family in families for gpu in gpus for case in family(gpu))


def layer_problem(gpu: "Gpu", m: int, bits: int, **fields: Any) -> Problem:
    """The product of M tokens with the layer: LoRDS unless there is a `block`, in bfloat16, with the GPU's decoder."""
    given: dict[str, Any] = {
        "n": LAYER, "x_dtype": "bfloat16", "scale_dtype": "float16", "decoder": "table" if gpu.is_amd else "grid7",
        "rank": None if "block" in fields else RANK, **fields,
    }  # fmt: skip
    return Problem(m_bucket=m, k=LAYER, bits=bits, **given)


def _with_a_loop(
    gpu: "Gpu", case: Callable[[int, bool], StaticCase], rule: Callable[[int], Any]
) -> Iterator[StaticCase]:
    """The case of the layer, and that of more rows where the layer leaves each program of an NVIDIA GPU one tile.

    Args:
        gpu: which the cases are for.
        case: (rows, whether a program has one tile) to the case.
        rule: rows to the configuration.
    """
    one_tile = rule(LAYER).tiles_per_program == 1
    yield case(LAYER, one_tile)
    if one_tile and not gpu.is_amd:
        yield case(MANY_ROWS, rule(MANY_ROWS).tiles_per_program == 1)


def _rows(n: int) -> str:
    return "" if n == LAYER else f" N={n}"


def _rank_expanded(gpu: "Gpu") -> Iterator[StaticCase]:
    from lords_bench.kernels.rank_expanded import space

    for bits in BITS:
        for levels in ("bit", "int"):
            if gpu.is_amd and levels == "int":
                continue

            def case(n: int, one_tile: bool, *, bits: int = bits, levels: str = levels) -> StaticCase:
                fields = {"decoder": "uniform"} if levels == "int" else {}
                name = f"{bits}bit" if levels == "bit" else f"int{bits}"
                return StaticCase(
                    kernel="rank_expanded",
                    variant=(f"{bits} bit" if levels == "bit" else name) + f" M=1{_rows(n)}",
                    target=gpu.arch,
                    budget=f"{'one-tile' if one_tile else 'decode'}-{name}",
                    launched=Launched(kernel="rank_expanded", problem=layer_problem(gpu, 1, bits, n=n, **fields)),
                    bits_per_weight=bits + FACTOR_BITS,
                )

            decoder = case(LAYER, False).launched.problem.decoder
            rule = partial(space.default_config, k=LAYER, bits=bits, decoder=decoder, gpu=gpu)
            yield from _with_a_loop(gpu, case, rule)


def _scale_tile(gpu: "Gpu") -> Iterator[StaticCase]:
    from lords_bench.kernels.scale_tile import space

    def cases(bits: int, m: int, dtype: str, *, scale_in_fp16: bool = False) -> Iterator[StaticCase]:
        rule = partial(
            space.default_config, m, k=LAYER, bits=bits, gpu=gpu, in_float32=dtype == "float32"
        )  # fmt: skip

        def case(n: int, one_tile: bool) -> StaticCase:
            name = "fp16-scale" if scale_in_fp16 else "bf16"
            budget = f"{'one-tile' if one_tile else 'small-m'}-4bit-{name}" if bits == 4 else "fused"
            if one_tile and bits != 4:
                budget = "one-tile"
            fields = {"decoder": "table"} if dtype == "float32" else {}
            settings = tuple({**asdict(rule(n)), "scale_in_fp16": True}.items()) if scale_in_fp16 else None
            return StaticCase(
                kernel="scale_tile",
                variant=f"{bits} bit M≤{m} {'fp16 scale' if scale_in_fp16 else dtype}{_rows(n)}",
                target=gpu.arch,
                budget="float32" if dtype == "float32" else budget,
                launched=Launched(
                    kernel="scale_tile",
                    problem=layer_problem(gpu, m, bits, n=n, x_dtype=dtype, **fields),
                    settings=settings,
                ),
                bits_per_weight=bits + FACTOR_BITS,
            )

        return _with_a_loop(gpu, case, rule)

    # On RDNA the GEMM serves few tokens at 3 bits: here 108 registers would spill.
    for bits in BITS:
        if not (gpu.is_rdna and bits == 3):
            yield from cases(bits, 8, "bfloat16")
    if not gpu.is_amd:
        for m in (8, 16):
            yield from cases(4, m, "float16", scale_in_fp16=True)
        yield from cases(4, 16, "bfloat16")
        yield from cases(4, 8, "float32")


def _scale_tile_gemm(gpu: "Gpu") -> Iterator[StaticCase]:
    from lords_bench.kernels.scale_tile_gemm import space

    sizes = (64, 128) if gpu.has_wgmma else (32, 64)
    for bits, m in ((4, sizes[0]), *((bits, sizes[1]) for bits in BITS)):
        problem = layer_problem(gpu, m, bits)
        form = space.default_config(m, bits=bits, decoder=problem.decoder, gpu=gpu).form
        yield StaticCase(
            kernel="scale_tile_gemm",
            variant=f"{bits} bit M={m} {form}",
            target=gpu.arch,
            budget="fused",
            launched=Launched(kernel="scale_tile_gemm", problem=problem),
            bits_per_weight=bits + FACTOR_BITS,
        )


def _dequantize(gpu: "Gpu") -> Iterator[StaticCase]:
    for bits in BITS:
        for in_training in (False, True):
            factors = "float32" if in_training else "float16"
            yield StaticCase(
                kernel="dequantize",
                variant=f"{bits} bit" + (" float32 factors" if in_training else ""),
                target=gpu.arch,
                budget="float32" if in_training else "fused",
                launched=Launched(kernel="dequantize", problem=layer_problem(gpu, 1, bits, scale_dtype=factors)),
            )


def _peft_backward(gpu: "Gpu") -> Iterator[StaticCase]:
    for bits in BITS:
        problems = {
            ("dA dB", "factor_gradients"): layer_problem(gpu, TOKENS, bits, scale_dtype="float32"),
            ("dX", "input_gradient"): layer_problem(gpu, TOKENS, bits),
        }
        if not gpu.is_amd:
            problems["dA dB float32", "factor_gradients"] = layer_problem(
                gpu, TOKENS, bits, scale_dtype="float32", x_dtype="float32", decoder="table"
            )
        for (name, kernel), problem in problems.items():
            yield StaticCase(
                kernel="peft_backward",
                variant=f"{bits} bit {name}",
                target=gpu.arch,
                budget="float32" if problem.x_dtype == "float32" else "through-shared-memory",
                launched=Launched(kernel=kernel, problem=problem),
            )


def _fake_quantize(gpu: "Gpu") -> Iterator[StaticCase]:
    yield StaticCase(
        kernel="fake_quantize",
        variant="4 bit",
        target=gpu.arch,
        budget="elementwise",
        launched=Launched(kernel="fake_quantize", problem=layer_problem(gpu, 1, 4, scale_dtype="float32")),
    )


def _blockwise(gpu: "Gpu") -> Iterator[StaticCase]:
    from lords_bench.kernels.blockwise import space

    def cases(bits: int, **fields: Any) -> Iterator[StaticCase]:
        def case(n: int, one_tile: bool) -> StaticCase:
            problem = layer_problem(gpu, 8, bits, n=n, block=BLOCK, **fields)
            return StaticCase(
                kernel="blockwise",
                variant=f"{_format(problem)} M≤8{_rows(n)}",
                target=gpu.arch,
                budget="one-tile" if one_tile else "fused",
                launched=Launched(kernel="blockwise", problem=problem),
                bits_per_weight=problem.bits + BLOCK_SCALE_BITS * (1 + problem.zero_points),
            )

        return _with_a_loop(gpu, case, partial(space.default_config, k=LAYER, bits=bits, gpu=gpu))

    for bits in BITS:
        yield from cases(bits)
    if not gpu.is_amd:
        yield from cases(4, decoder="uniform", zero_points=True)
    for bits in BITS:
        yield StaticCase(
            kernel="blockwise",
            variant=f"dequantize nf{bits} G={BLOCK}",
            target=gpu.arch,
            budget="elementwise",
            launched=Launched(kernel="blockwise_dequantize_matmul", problem=layer_problem(gpu, 8, bits, block=BLOCK)),
        )


def _blockwise_gemm(gpu: "Gpu") -> Iterator[StaticCase]:
    def case(m: int, bits: int, **fields: Any) -> StaticCase:
        problem = layer_problem(gpu, m, bits, **{"block": BLOCK, **fields})
        assert problem.block is not None
        exact = " exact levels" if problem.decoder == "table16" else ""
        return StaticCase(
            kernel="blockwise_gemm",
            variant=f"{_format(problem)} M={m} {_gemm_form(gpu, problem)}{exact}",
            target=gpu.arch,
            budget="fused",
            launched=Launched(kernel="blockwise_gemm", problem=problem),
            bits_per_weight=bits + BLOCK_SCALE_BITS * BLOCK / problem.block * (1 + problem.zero_points),
        )

    yield from (case(64, bits) for bits in BITS)
    if not gpu.is_amd:
        yield case(64, 4, decoder="uniform", zero_points=True)
        yield case(64, 4, block=2 * BLOCK)
        # The exact levels of a checkpoint of other libraries, off the 7-bit grid.
        yield case(128, 4, decoder="table16")


def _qlora(gpu: "Gpu") -> Iterator[StaticCase]:
    """The forward of many tokens; that of few is the block-wise kernel and two products of the library."""
    problem = layer_problem(gpu, 64, 4, block=BLOCK)
    yield StaticCase(
        kernel="qlora",
        variant=f"fused {_format(problem)} R={RANK} M=64 {_gemm_form(gpu, problem)}",
        target=gpu.arch,
        budget="fused",
        launched=Launched(kernel="qlora_fused", problem=problem, lora_rank=RANK),
        bits_per_weight=4 + BLOCK_SCALE_BITS + FACTOR_BITS,
    )


def _format(problem: Problem) -> str:
    return f"{'int' if problem.zero_points else 'nf'}{problem.bits} G={problem.block}"


def _gemm_form(gpu: "Gpu", problem: Problem) -> str:
    from lords_bench.kernels.blockwise_gemm import space

    return space.default_config(problem.m_bucket, decoder=problem.decoder, gpu=gpu).form
