"""The kernels as they ship, with the budget each is held to: what `lords-bench kernels --static` compiles.

Shapes without ragged edges at rank 16, the specialisation that large layers run, in the configuration that each
kernel's own rule picks for the target. Decoders in PTX compile for NVIDIA GPUs, the portable decoder for AMD ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from lords_bench.static.target import AMD_TARGETS, NVIDIA_TARGETS

if TYPE_CHECKING:
    from lords_bench.kernels.common.gpu import Gpu
    from lords_bench.kernels.common.signature import KernelSignature

RANK = 16
BITS = (4, 3, 2)
BLOCK = 64

# The layer whose configuration and factors count: 4096×4096, B and A in 16 bits at rank 16.
LAYER = 4096
FACTOR_BITS = RANK * 16 * 2 / LAYER
BLOCK_SCALE_BITS = 16 / BLOCK

# Multiprocessors of a large GPU of each target: they decide how many tiles a program walks over.
SM_COUNTS = MappingProxyType(
    {
        "sm_80": 108, "sm_86": 84, "sm_89": 128, "sm_90": 132, "sm_100": 148, "sm_120": 170,
        "gfx942": 304, "gfx950": 256, "gfx1100": 96,
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticCase:
    """One kernel specialisation for one target, and what is asked of it.

    Attributes:
        kernel: folder in `kernels/`.
        variant: what sets it apart from other cases of the kernel.
        target: name of the architecture.
        budget: name in `budget.BUDGETS`.
        bits_per_weight: bits read per weight, for predictions; None where memory is not what bounds the kernel.
    """

    kernel: str
    variant: str
    target: str
    budget: str
    signature: "KernelSignature"
    bits_per_weight: float | None = None

    @property
    def label(self) -> str:
        """Kernel and variant."""
        return f"{self.kernel} {self.variant}"


def shipped_cases(targets: tuple[str, ...] = (*NVIDIA_TARGETS, *AMD_TARGETS)) -> tuple[StaticCase, ...]:
    """Every case of the targets, kernel by kernel. Imports Triton and every kernel."""
    from lords_bench.kernels.common.gpu import Gpu

    gpus = [Gpu(arch=target, sm_count=SM_COUNTS[target]) for target in targets]
    families = (
        _rank_expanded, _scale_tile, _scale_tile_gemm, _dequantize, _peft_backward, _fake_quantize, _blockwise,
        _blockwise_gemm, _qlora,
    )  # fmt: skip
    return tuple(case for family in families for gpu in gpus for case in family(gpu))


def _decoder(gpu: "Gpu") -> str:
    return "table" if gpu.is_amd else "grid7"


def _rank_expanded(gpu: "Gpu") -> Iterator[StaticCase]:
    from lords_bench.kernels.rank_expanded import launch, space

    for bits in BITS:
        config = space.default_config(LAYER, LAYER, bits=bits, gpu=gpu)
        yield StaticCase(
            kernel="rank_expanded",
            variant=f"{bits} bit M=1",
            target=gpu.arch,
            budget=f"decode-{bits}bit",
            signature=launch.signature(config, bits=bits, decoder=_decoder(gpu), k=LAYER, rank=RANK),
            bits_per_weight=bits + FACTOR_BITS,
        )
        if not gpu.is_amd:
            yield StaticCase(
                kernel="rank_expanded",
                variant=f"int{bits} M=1",
                target=gpu.arch,
                budget=f"decode-int{bits}",
                signature=launch.signature(config, bits=bits, decoder="uniform", k=LAYER, rank=RANK),
                bits_per_weight=bits + FACTOR_BITS,
            )


def _scale_tile(gpu: "Gpu") -> Iterator[StaticCase]:
    import torch

    from lords_bench.kernels.scale_tile import launch, space

    def case(bits: int, m: int, dtype: torch.dtype, *, scale_in_fp16: bool = False) -> StaticCase:
        config = space.default_config(m, LAYER, LAYER, bits=bits, gpu=gpu)
        config = replace(config, scale_in_fp16=scale_in_fp16)
        name = "fp16 scale" if scale_in_fp16 else str(dtype).removeprefix("torch.")
        budget = "fused" if bits != 4 else "small-m-4bit-fp16-scale" if scale_in_fp16 else "small-m-4bit-bf16"
        return StaticCase(
            kernel="scale_tile",
            variant=f"{bits} bit M≤{m} {name}",
            target=gpu.arch,
            budget=budget,
            signature=launch.signature(
                config, bits=bits, decoder=_decoder(gpu), m=m, k=LAYER, rank=RANK, x_dtype=dtype
            ),
            bits_per_weight=bits + FACTOR_BITS,
        )

    # On RDNA the GEMM serves few tokens at 3 bits: here 108 registers would spill.
    yield from (case(bits, 8, torch.bfloat16) for bits in BITS if not (gpu.is_rdna and bits == 3))
    if not gpu.is_amd:
        yield case(4, 8, torch.float16, scale_in_fp16=True)
        yield case(4, 16, torch.bfloat16)
        yield case(4, 16, torch.float16, scale_in_fp16=True)
        config = space.default_config(8, LAYER, LAYER, bits=4, gpu=gpu, in_float32=True)
        yield StaticCase(
            kernel="scale_tile",
            variant="4 bit M≤8 float32",
            target=gpu.arch,
            budget="float32",
            signature=launch.signature(config, bits=4, decoder="table", m=8, k=LAYER, rank=RANK, x_dtype=torch.float32),
            bits_per_weight=4 + FACTOR_BITS,
        )


def _scale_tile_gemm(gpu: "Gpu") -> Iterator[StaticCase]:
    from lords_bench.kernels.scale_tile_gemm import launch, space

    sizes = (64, 128) if gpu.has_wgmma else (32, 64)
    for bits, m in ((4, sizes[0]), *((bits, sizes[1]) for bits in BITS)):
        config = space.default_config(m, bits=bits, gpu=gpu)
        yield StaticCase(
            kernel="scale_tile_gemm",
            variant=f"{bits} bit M={m} {config.form}",
            target=gpu.arch,
            budget="fused",
            signature=launch.signature(config, bits=bits, decoder=_decoder(gpu), rank=RANK),
            bits_per_weight=bits + FACTOR_BITS,
        )


def _dequantize(gpu: "Gpu") -> Iterator[StaticCase]:
    import torch

    from lords_bench.kernels.dequantize import launch, space

    for bits in BITS:
        for in_training in (False, True):
            config = space.default_config(bits=bits, in_float32=in_training, gpu=gpu)
            factors = torch.float32 if in_training else torch.float16
            yield StaticCase(
                kernel="dequantize",
                variant=f"{bits} bit" + (" float32 factors" if in_training else ""),
                target=gpu.arch,
                budget="float32" if in_training else "fused",
                signature=launch.signature(config, bits=bits, decoder=_decoder(gpu), rank=RANK, scale_dtype=factors),
            )


def _peft_backward(gpu: "Gpu") -> Iterator[StaticCase]:
    import torch

    from lords_bench.kernels.peft_backward import launch, space

    for bits in BITS:
        factors = space.factor_gradients_default(bits=bits, gpu=gpu)
        inputs = space.input_gradient_default(bits=bits, gpu=gpu)
        for name, signature in (
            ("dA dB", launch.factor_gradients_signature(factors, bits=bits, decoder=_decoder(gpu), rank=RANK)),
            ("dX", launch.input_gradient_signature(inputs, bits=bits, decoder=_decoder(gpu), rank=RANK)),
        ):
            yield StaticCase(
                kernel="peft_backward",
                variant=f"{bits} bit {name}",
                target=gpu.arch,
                budget="through-shared-memory",
                signature=signature,
            )
        if not gpu.is_amd:
            factors = space.factor_gradients_default(bits=bits, gpu=gpu, in_float32=True)
            yield StaticCase(
                kernel="peft_backward",
                variant=f"{bits} bit dA dB float32",
                target=gpu.arch,
                budget="float32",
                signature=launch.factor_gradients_signature(
                    factors, bits=bits, decoder="table", rank=RANK, x_dtype=torch.float32
                ),
            )


def _fake_quantize(gpu: "Gpu") -> Iterator[StaticCase]:
    from lords_bench.kernels.fake_quantize import launch, space

    yield StaticCase(
        kernel="fake_quantize",
        variant="4 bit",
        target=gpu.arch,
        budget="elementwise",
        signature=launch.signature(space.default_config(gpu=gpu), bits=4, rank=RANK),
    )


def _blockwise(gpu: "Gpu") -> Iterator[StaticCase]:
    from lords_bench.kernels.blockwise import launch, space
    from lords_bench.kernels.dequantize.space import default_config as default_dequantize_config

    def case(bits: int, decoder: str, *, has_zero: bool) -> StaticCase:
        config = space.default_config(LAYER, LAYER, bits=bits, gpu=gpu)
        return StaticCase(
            kernel="blockwise",
            variant=f"{'int' if has_zero else 'nf'}{bits} G={BLOCK} M≤8",
            target=gpu.arch,
            budget="fused",
            signature=launch.signature(config, bits=bits, decoder=decoder, block=BLOCK, k=LAYER, has_zero=has_zero),
            bits_per_weight=bits + BLOCK_SCALE_BITS * (1 + has_zero),
        )

    yield from (case(bits, _decoder(gpu), has_zero=False) for bits in BITS)
    if not gpu.is_amd:
        yield case(4, "uniform", has_zero=True)
    for bits in BITS:
        yield StaticCase(
            kernel="blockwise",
            variant=f"dequantize nf{bits} G={BLOCK}",
            target=gpu.arch,
            budget="elementwise",
            signature=launch.dequantize_signature(
                default_dequantize_config(), bits=bits, decoder=_decoder(gpu), block=BLOCK
            ),
        )


def _qlora(gpu: "Gpu") -> Iterator[StaticCase]:
    """The forward of many tokens; that of few is the block-wise kernel and two products of the library."""
    from lords_bench.kernels.blockwise_gemm import launch, space

    config = space.default_config(64, decoder=_decoder(gpu), gpu=gpu)
    yield StaticCase(
        kernel="qlora",
        variant=f"fused nf4 G={BLOCK} R={RANK} M=64 {config.form}",
        target=gpu.arch,
        budget="fused",
        signature=launch.signature(config, bits=4, decoder=_decoder(gpu), block=BLOCK, k=LAYER, lora_rank=RANK),
        bits_per_weight=4 + BLOCK_SCALE_BITS + FACTOR_BITS,
    )


def _blockwise_gemm(gpu: "Gpu") -> Iterator[StaticCase]:
    from lords_bench.kernels.blockwise_gemm import launch, space

    def case(bits: int, m: int, block: int, decoder: str, *, has_zero: bool = False) -> StaticCase:
        config = space.default_config(m, decoder=decoder, gpu=gpu)
        return StaticCase(
            kernel="blockwise_gemm",
            variant=f"{'int' if has_zero else 'nf'}{bits} G={block} M={m} {config.form}"
            + (" exact levels" if decoder == "table16" else ""),
            target=gpu.arch,
            budget="fused",
            signature=launch.signature(config, bits=bits, decoder=decoder, block=block, k=LAYER, has_zero=has_zero),
            bits_per_weight=bits + BLOCK_SCALE_BITS * BLOCK / block * (1 + has_zero),
        )

    yield from (case(bits, 64, BLOCK, _decoder(gpu)) for bits in BITS)
    if not gpu.is_amd:
        yield case(4, 64, BLOCK, "uniform", has_zero=True)
        yield case(4, 64, 2 * BLOCK, "grid7")
        # The exact levels of a checkpoint of other libraries, off the 7-bit grid.
        yield case(4, 128, BLOCK, "table16")
