"""`KERNELS`: every kernel by name, behind one interface; a product in plain torch is a kernel too.

A kernel says whether it takes a problem and why not (`supports`), what could be tuned (`space`), what it costs at
least (`cost`), and runs it (`launch`). To add one: a folder in `kernels/`, an entry here, a case in `static/cases.py`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lords_bench.errors import RecordError, UsageError, reason_of
from lords_bench.kernel_registry import blockwise, lords
from lords_bench.kernel_registry.blockwise import LoraAdapter, PreparedBlockwise, prepare_blockwise
from lords_bench.kernel_registry.kernel import Cost, Kernel, WeightKind, kernel_module
from lords_bench.kernel_registry.lords import factor_gradients, input_gradient, lords_operands
from lords_bench.prepared import DECODERS

__all__ = [
    "KERNELS",
    "Cost",
    "Kernel",
    "LoraAdapter",
    "PreparedBlockwise",
    "WeightKind",
    "config_of",
    "factor_gradients",
    "input_gradient",
    "lords_operands",
    "named_kernel",
    "prepare_blockwise",
]

KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "rank_expanded": Kernel(
            name="rank_expanded",
            supports=lords.rank_expanded_supports,
            space=lambda weight: kernel_module("rank_expanded.space").space(
                bits=weight.bits, decoder=DECODERS[weight.decoder]
            ),
            launch=lords.rank_expanded_launch,
            cost=lords.product_cost,
            config=lambda: kernel_module("rank_expanded.space").RankExpandedConfig,
            roots=("kernels.rank_expanded.launch:launch",),
        ),
        "scale_tile": Kernel(
            name="scale_tile",
            supports=lords.scale_tile_supports,
            space=lambda weight: kernel_module("scale_tile.space").space(bits=weight.bits),
            launch=lords.scale_tile_launch,
            cost=lords.product_cost,
            config=lambda: kernel_module("scale_tile.space").ScaleTileConfig,
            roots=("kernels.scale_tile.launch:launch",),
        ),
        "scale_tile_gemm": Kernel(
            name="scale_tile_gemm",
            supports=lords.scale_tile_gemm_supports,
            space=lambda _weight: kernel_module("scale_tile_gemm.space").space(),
            launch=lords.scale_tile_gemm_launch,
            cost=lords.product_cost,
            config=lambda: kernel_module("scale_tile_gemm.space").ScaleTileGemmConfig,
            roots=("kernels.scale_tile_gemm.launch:launch", "kernels.scale_tile_gemm.space:default_config"),
        ),
        "dequantize_matmul": Kernel(
            name="dequantize_matmul",
            supports=lords.dequantize_supports,
            space=lambda _weight: kernel_module("dequantize.space").space(),
            launch=lords.dequantize_launch,
            cost=lords.product_cost,
            config=lambda: kernel_module("dequantize.space").DequantizeConfig,
            roots=("kernels.dequantize.launch:dequantize",),
        ),
        "reference": Kernel(
            name="reference",
            supports=lords.reference_supports,
            space=lambda _weight: (None,),
            launch=lords.reference_launch,
            cost=lords.product_cost,
            config=None,
            roots=("reference.products:matmul",),
        ),
        "blockwise": Kernel(
            name="blockwise",
            weight="blockwise",
            supports=blockwise.blockwise_supports,
            space=lambda weight: kernel_module("blockwise.space").space(bits=weight.operands.bits),
            launch=blockwise.blockwise_launch,
            cost=blockwise.blockwise_cost,
            config=lambda: kernel_module("blockwise.space").BlockwiseConfig,
            roots=("kernels.blockwise.launch:launch",),
        ),
        "blockwise_gemm": Kernel(
            name="blockwise_gemm",
            weight="blockwise",
            supports=blockwise.blockwise_gemm_supports,
            space=lambda _weight: kernel_module("blockwise_gemm.space").space(),
            launch=blockwise.blockwise_gemm_launch,
            cost=blockwise.blockwise_cost,
            config=lambda: kernel_module("blockwise_gemm.space").BlockwiseGemmConfig,
            roots=("kernels.blockwise_gemm.launch:launch", "kernels.blockwise_gemm.space:default_config"),
        ),
        "blockwise_dequantize_matmul": Kernel(
            name="blockwise_dequantize_matmul",
            weight="blockwise",
            supports=blockwise.blockwise_dequantize_supports,
            space=lambda _weight: kernel_module("dequantize.space").space(),
            launch=blockwise.blockwise_dequantize_launch,
            cost=blockwise.blockwise_cost,
            config=lambda: kernel_module("dequantize.space").DequantizeConfig,
            roots=("kernels.blockwise.launch:dequantize",),
        ),
        "qlora_fused": Kernel(
            name="qlora_fused",
            weight="qlora",
            supports=blockwise.qlora_fused_supports,
            space=lambda _weight: (None,),
            launch=blockwise.qlora_fused_launch,
            cost=blockwise.blockwise_cost,
            config=None,
            roots=("kernels.qlora.launch:fused",),
        ),
        "qlora_as_peft": Kernel(
            name="qlora_as_peft",
            weight="qlora",
            supports=blockwise.qlora_peft_supports,
            space=lambda _weight: (None,),
            launch=blockwise.qlora_peft_launch,
            cost=blockwise.blockwise_cost,
            config=None,
            roots=("kernels.qlora.launch:as_peft",),
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


def config_of(kernel: str, settings: tuple[tuple[str, Any], ...]) -> Any:
    """A kernel's configuration from its fields by name; None, which is the kernel's own rule, where there are none.

    Raises:
        UsageError: unknown kernel.
        RecordError: settings that the kernel does not know.
    """
    config = named_kernel(kernel).config
    if not settings:
        return None
    if config is None:
        raise RecordError(f"{kernel} has no settings, but {', '.join(name for name, _ in settings)} are given")
    try:
        return config()(**dict(settings))
    except TypeError as error:
        raise RecordError(f"settings do not fit {kernel}: {reason_of(error)}") from None
