"""`ENTRIES`: every folder of kernels, a line each; `KERNELS`: every way to compute a product, by name.

To add a kernel: a folder in `kernels/` with its `KERNEL`, and its two lines here. A product in plain torch is a kernel
too.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lords_bench.errors import RecordError, UsageError, reason_of
from lords_bench.kernels import (
    blockwise,
    blockwise_gemm,
    dequantize,
    fake_quantize,
    peft_backward,
    qlora,
    rank_expanded,
    scale_tile,
    scale_tile_gemm,
)
from lords_bench.kernels.common.entry import Entry, Kernel, Part, Roundings
from lords_bench.kernels.common.support import YES
from lords_bench.kernels.fake_quantize import fake_quantized
from lords_bench.kernels.peft_backward import factor_gradients, input_gradient
from lords_bench.reference import products

__all__ = [
    "ENTRIES",
    "KERNELS",
    "PARTS",
    "config_of",
    "factor_gradients",
    "fake_quantized",
    "input_gradient",
    "named_kernel",
]

# In the order in which they are listed and checked.
ENTRIES: tuple[Entry, ...] = (
    rank_expanded.KERNEL,
    scale_tile.KERNEL,
    scale_tile_gemm.KERNEL,
    dequantize.KERNEL,
    peft_backward.KERNEL,
    fake_quantize.KERNEL,
    blockwise.KERNEL,
    blockwise_gemm.KERNEL,
    qlora.KERNEL,
)

# Everything that has no other kernel, and what a CPU runs: plain PyTorch, W in panels.
REFERENCE_PRODUCT = Kernel(
    name="reference",
    takes=lambda _m, _weight, _dtype: YES,
    launch=lambda x_MK, weight, bias_N, _config: products.matmul(
        x_MK, weight.packed, weight.b_NR, weight.a_RK, weight.levels_L, weight.bits, bias_N=bias_N
    ),
    roots=("reference.products:matmul",),
    roundings=Roundings(count=0),
    is_compiled=False,
)

_PRODUCTS = (*(kernel for entry in ENTRIES for kernel in entry.kernels), REFERENCE_PRODUCT)
KERNELS: Mapping[str, Kernel] = MappingProxyType({kernel.name: kernel for kernel in _PRODUCTS})
PARTS: Mapping[str, Part] = MappingProxyType({part.name: part for entry in ENTRIES for part in entry.parts})


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
    tuning = named_kernel(kernel).tuning
    if not settings:
        return None
    if tuning is None:
        raise RecordError(f"{kernel} has no settings, but {', '.join(name for name, _ in settings)} are given")
    try:
        return tuning.config()(**dict(settings))
    except TypeError as error:
        raise RecordError(f"settings do not fit {kernel}: {reason_of(error)}") from None
