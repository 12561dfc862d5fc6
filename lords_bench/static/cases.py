"""The kernels as they ship, with the budget each is held to: what `lords-bench kernels --static` compiles.

Shapes without ragged edges at rank 16, the specialisation that large layers run, in the configuration that each
kernel's own rule picks. Decoders in PTX compile for NVIDIA GPUs, the portable decoder for AMD ones.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lords_bench.static.target import AMD_TARGETS, NVIDIA_TARGETS

if TYPE_CHECKING:
    from lords_bench.kernels.common.signature import KernelSignature

RANK = 16
BITS = (4, 3, 2)

# The layer whose configuration and factors count: 4096×4096, B and A in 16 bits at rank 16.
LAYER = 4096
FACTOR_BITS = RANK * 16 * 2 / LAYER

HOPPER_TARGETS = ("sm_90",)
SYNC_TARGETS = tuple(target for target in NVIDIA_TARGETS if target not in HOPPER_TARGETS)


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticCase:
    """One kernel specialisation and what is asked of it.

    Attributes:
        kernel: folder in `kernels/`.
        variant: what sets it apart from other cases of the kernel.
        budget: name in `budget.BUDGETS`.
        bits_per_weight: bits read per weight, for predictions; None where memory is not what bounds the kernel.
    """

    kernel: str
    variant: str
    budget: str
    signature: "KernelSignature"
    targets: tuple[str, ...]
    bits_per_weight: float | None = None

    @property
    def label(self) -> str:
        """Kernel and variant."""
        return f"{self.kernel} {self.variant}"


def shipped_cases() -> tuple[StaticCase, ...]:
    """Every case, NVIDIA ones first. Imports Triton and every kernel."""
    return (
        *_rank_expanded(),
        *_scale_tile(),
        *_scale_tile_gemm(),
        *_dequantize(),
        *_peft_backward(),
        *_fake_quantize(),
        *_portable(),
    )


def _rank_expanded() -> tuple[StaticCase, ...]:
    from lords_bench.kernels.rank_expanded import launch, space

    return tuple(
        StaticCase(
            kernel="rank_expanded",
            variant=f"{bits} bit M=1",
            budget=f"decode-{bits}bit",
            signature=launch.signature(
                space.default_config(LAYER, LAYER, bits=bits), bits=bits, decoder="grid7", rank=RANK
            ),
            targets=NVIDIA_TARGETS,
            bits_per_weight=bits + FACTOR_BITS,
        )
        for bits in BITS
    )


def _scale_tile() -> tuple[StaticCase, ...]:
    import torch

    from lords_bench.kernels.scale_tile import launch, space

    def case(bits: int, m: int, dtype: torch.dtype, *, scale_in_fp16: bool = False) -> StaticCase:
        from dataclasses import replace

        config = replace(space.default_config(m, LAYER, LAYER, bits=bits), scale_in_fp16=scale_in_fp16)
        name = "fp16 scale" if scale_in_fp16 else str(dtype).removeprefix("torch.")
        budget = {(4, 8): "small-m-4bit-fp16-scale" if scale_in_fp16 else "small-m-4bit-bf16"}.get((bits, m), "fused")
        return StaticCase(
            kernel="scale_tile",
            variant=f"{bits} bit M≤{m} {name}",
            budget=budget,
            signature=launch.signature(config, bits=bits, decoder="grid7", rank=RANK, m=m, x_dtype=dtype),
            targets=NVIDIA_TARGETS,
            bits_per_weight=bits + FACTOR_BITS,
        )

    return (
        *(case(bits, 8, torch.bfloat16) for bits in BITS),
        case(4, 8, torch.float16, scale_in_fp16=True),
        case(4, 16, torch.bfloat16),
        case(4, 16, torch.float16, scale_in_fp16=True),
    )


def _scale_tile_gemm() -> tuple[StaticCase, ...]:
    from lords_bench.kernels.scale_tile_gemm import launch, space

    return tuple(
        StaticCase(
            kernel="scale_tile_gemm",
            variant=f"4 bit M={m} {form}",
            budget="fused",
            signature=launch.signature(
                space.default_config(m, is_hopper=form == "wgmma"), bits=4, decoder="grid7", rank=RANK
            ),
            targets=HOPPER_TARGETS if form == "wgmma" else SYNC_TARGETS,
            bits_per_weight=4 + FACTOR_BITS,
        )
        for form, sizes in (("mma.sync", (32, 64)), ("wgmma", (64, 128)))
        for m in sizes
    )


def _dequantize() -> tuple[StaticCase, ...]:
    from lords_bench.kernels.dequantize import launch, space

    return tuple(
        StaticCase(
            kernel="dequantize",
            variant=f"{bits} bit",
            budget="fused",
            signature=launch.signature(space.default_config(), bits=bits, decoder="grid7", rank=RANK),
            targets=NVIDIA_TARGETS,
        )
        for bits in BITS
    )


def _peft_backward() -> tuple[StaticCase, ...]:
    from lords_bench.kernels.peft_backward import launch, space

    return tuple(
        StaticCase(
            kernel="peft_backward",
            variant=f"{bits} bit {name}",
            budget="through-shared-memory",
            signature=signature,
            targets=NVIDIA_TARGETS,
        )
        for bits in BITS
        for name, signature in (
            (
                "dA dB",
                launch.factor_gradients_signature(
                    space.factor_gradients_default(bits=bits), bits=bits, decoder="grid7", rank=RANK
                ),
            ),
            (
                "dX",
                launch.input_gradient_signature(
                    space.input_gradient_default(bits=bits), bits=bits, decoder="grid7", rank=RANK
                ),
            ),
        )
    )


def _fake_quantize() -> tuple[StaticCase, ...]:
    from lords_bench.kernels.fake_quantize import launch, space

    return (
        StaticCase(
            kernel="fake_quantize",
            variant="4 bit",
            budget="elementwise",
            signature=launch.signature(space.default_config(), bits=4, rank=RANK),
            targets=NVIDIA_TARGETS,
        ),
    )


def _portable() -> tuple[StaticCase, ...]:
    from lords_bench.kernels.dequantize import launch as dequantize
    from lords_bench.kernels.dequantize import space as dequantize_space
    from lords_bench.kernels.scale_tile import launch, space

    return tuple(
        StaticCase(kernel=kernel, variant="4 bit portable", budget="fused", signature=signature, targets=AMD_TARGETS)
        for kernel, signature in (
            (
                "scale_tile",
                launch.signature(space.default_config(8, LAYER, LAYER, bits=4), bits=4, decoder="table", rank=RANK),
            ),
            (
                "dequantize",
                dequantize.signature(dequantize_space.default_config(), bits=4, decoder="table", rank=RANK),
            ),
        )
    )
