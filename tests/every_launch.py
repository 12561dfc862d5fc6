"""Every launch that the kernels can be asked for: kernel × search space × decoder × bits × rank × dtype × tokens."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from lords_bench.records.trial import Settings
from lords_bench.records.tuned import M_BUCKETS, Machine, Problem
from lords_bench.static.launches import SM_COUNTS, Launched
from lords_bench.static.target import Target
from lords_bench.tuning.kernel_spaces import kernel_space

LORDS = ("rank_expanded", "scale_tile", "scale_tile_gemm", "dequantize_matmul")
BLOCKS = ("blockwise", "blockwise_gemm", "blockwise_dequantize_matmul")
TRAINING = ("factor_gradients", "input_gradient", "dequantize", "fake_quantize")
KERNELS = (*LORDS, *BLOCKS, "qlora_fused", *TRAINING)

# Ranks as kernels pad them, and one that none takes.
RANKS = (16, 32, 64, 128, 256)
BLOCK_SIZES = (16, 32, 64, 128, 256, 512)
# A layer with room for every tile, and one with an edge everywhere.
LAYERS = ((4096, 4096), (4100, 4028))


def every_problem(kernel: str, target: Target) -> Iterator[Problem]:
    """Every problem that differs in what may matter to a compiler."""
    portable = target.backend == "hip"
    few = kernel in ("rank_expanded", "scale_tile", "blockwise")
    tokens = [m for m in M_BUCKETS if m <= 64] if few else [1, 16, 32, 64, 128, 4096]
    in_blocks = kernel in (*BLOCKS, "qlora_fused")
    for dtype, bits, m, (n, k) in product(("bfloat16", "float16", "float32"), (4, 3, 2), tokens, LAYERS):
        decoders = ("table",) if portable or dtype == "float32" else ("grid7", "uniform", "table16", "table")
        for decoder in decoders:
            if in_blocks:
                scales: Iterator[dict[str, Any]] = (
                    {"block": block, "zero_points": zeros} for block in BLOCK_SIZES for zeros in (False, True)
                )
            else:
                scales = ({"rank": rank} for rank in RANKS)
            for scale in scales:
                for scale_dtype in ("float16", "float32") if kernel in TRAINING else ("float16",):
                    yield Problem(
                        m_bucket=m, n=n, k=k, bits=bits, x_dtype=dtype, scale_dtype=scale_dtype, decoder=decoder,
                        **scale,
                    )  # fmt: skip


def configurations(kernel: str, problem: Problem, target: Target) -> tuple[Settings | None, ...]:
    """The kernel's own rule, then its search space."""
    from dataclasses import asdict

    from lords_bench.kernels.fake_quantize import space as fake_quantize
    from lords_bench.kernels.peft_backward import space as peft_backward

    if kernel == "qlora_fused":
        return (None,)
    if kernel in ("factor_gradients", "fake_quantize", "input_gradient"):
        listed: tuple[Any, ...] = {
            "factor_gradients": lambda: peft_backward.factor_gradients_space(bits=problem.bits),
            "input_gradient": peft_backward.input_gradient_space,
            "fake_quantize": fake_quantize.space,
        }[kernel]()
        return (None, *(tuple(asdict(config).items()) for config in listed))
    name = "dequantize_matmul" if kernel == "dequantize" else kernel
    major_minor = (9, 0) if target.backend == "hip" else divmod(int(target.arch), 10)
    machine = Machine(
        gpu=target.name, capability=major_minor, multiprocessors=SM_COUNTS[target.name], driver=None, triton=""
    )
    return (None, *kernel_space(name, problem, machine).configs)


def launches(kernel: str, target: Target) -> Iterator[Launched]:
    """All of them."""
    for problem in every_problem(kernel, target):
        for settings in configurations(kernel, problem, target):
            yield launch_of(kernel, problem, settings)


def launch_of(kernel: str, problem: Problem, settings: Settings | None) -> Launched:
    """One of them; QLoRA's with an adapter."""
    lora_rank = 16 if kernel == "qlora_fused" else None
    return Launched(kernel=kernel, problem=problem, settings=settings, lora_rank=lora_rank)
