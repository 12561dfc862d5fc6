"""Which kernel serves a product on a GPU: one table look-up by M bucket, filled once per GPU, dtype and format.

`ROUTES` is the order of preference until tuned tables say otherwise; its limits on M come from the static bounds (where
a kernel stops being bound by memory), not from measurements. A kernel that refuses a problem passes it on to the next,
and the first time that ends in plain PyTorch a warning says so.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lords_bench.errors import UsageError
from lords_bench.kernel_registry import KERNELS
from lords_bench.prepared import PreparedWeight

Launch = Callable[[Tensor, PreparedWeight, Tensor | None], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Kernels in order of preference for up to `max_m` tokens (None: any number)."""

    max_m: int | None
    kernels: tuple[str, ...]


ROUTES = (
    Route(max_m=1, kernels=("rank_expanded", "scale_tile", "dequantize_matmul", "reference")),
    Route(max_m=32, kernels=("scale_tile", "dequantize_matmul", "reference")),
    Route(max_m=512, kernels=("scale_tile_gemm", "dequantize_matmul", "reference")),
    Route(max_m=None, kernels=("dequantize_matmul", "reference")),
)

# Bucket i holds 2^(i-1) < M ≤ 2^i; the last one everything above.
BUCKETS = tuple(1 << i for i in range(13))
_LAST_BUCKET = len(BUCKETS)

MIN_CAPABILITY = (8, 0)

_Key = tuple[int, torch.dtype, int, int, int, bool]
# Filled as problems come; never shared between processes.
launch_table: dict[_Key, tuple[Launch, ...]] = {}


def launcher(m: int, dtype: torch.dtype, weight: PreparedWeight) -> Launch:
    """The function that computes y_MN for M ≥ 1 tokens of `dtype`: `launch(x_MK, weight, bias_N)`.

    Raises:
        UsageError: the GPU is too old for the kernels.
    """
    device = weight.packed.get_device()
    key = (device, dtype, weight.bits, weight.b_NR.shape[1], weight.decoder, weight.a_columns is None)
    launches = launch_table.get(key)
    if launches is None:
        launches = launch_table[key] = _launches(dtype, weight)
    bucket = (m - 1).bit_length()
    return launches[min(_LAST_BUCKET, bucket)]


def kernel_name(m: int, dtype: torch.dtype, weight: PreparedWeight) -> str:
    """Name of the kernel that serves M tokens: the first of its route that supports them."""
    route = next(route for route in ROUTES if route.max_m is None or m <= route.max_m)
    return next(name for name in route.kernels if KERNELS[name].supports(m, weight, dtype).ok)


def check_capability(name: str, capability: tuple[int, int]) -> None:
    """Refuse an NVIDIA GPU that the kernels do not compile for.

    Raises:
        UsageError: naming the GPU and what to use instead.
    """
    if capability < MIN_CAPABILITY:
        sm = "".join(map(str, capability))
        raise UsageError(f"{name} (sm_{sm}) is older than sm_80, which the kernels need; use x @ weight.dequantize().T")


def _launches(dtype: torch.dtype, weight: PreparedWeight) -> tuple[Launch, ...]:
    """One launch per bucket, for the largest M of each, and one for all larger M."""
    device = weight.packed.device
    if device.type == "cuda" and torch.version.hip is None:
        check_capability(torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device))
    names = [kernel_name(m, dtype, weight) for m in (*BUCKETS, 2 * BUCKETS[-1])]
    if "reference" in names:
        reason = KERNELS["dequantize_matmul"].supports(1, weight, dtype).reason
        warnings.warn(f"a LoRDS product runs in plain PyTorch, which is slow: {reason}", stacklevel=4)
    return tuple(map(bound_launch, names))


def bound_launch(name: str) -> Launch:
    """The kernel's launch with its own rule for the configuration."""
    launch = KERNELS[name].launch
    return lambda x_MK, weight, bias_N: launch(x_MK, weight, bias_N, None)
