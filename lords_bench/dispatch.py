"""Which kernel serves a product on a GPU: one look-up by M bucket, resolved once per weight.

A tuned table decides where it holds the problem (`tuning.lookup`); elsewhere `ROUTES`, the formula: an order of
preference whose limits on M come from the static bounds (where a kernel stops being bound by memory), not from
measurements. A kernel that refuses a problem passes it on to the next, and the first time that ends in plain PyTorch a
warning says so.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lords_bench.errors import RecordError, UsageError
from lords_bench.kernel_registry import KERNELS, config_of
from lords_bench.kernel_registry.kernel import kernel_module
from lords_bench.prepared import REFERENCE, PreparedWeight
from lords_bench.records.tuned import M_BUCKETS, Choice
from lords_bench.tuning.active import active_entries
from lords_bench.tuning.keys import ROUTED, key_of, machine_of, problem_of
from lords_bench.tuning.lookup import Found, choose

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

MIN_CAPABILITY = (8, 0)

_RDNA_FEW_TOKENS = 8
_RDNA_WIDE_BITS = 3

_LAST_BUCKET = len(M_BUCKETS) - 1
# Tokens in the last bucket, which has no end: what serves it must take any number.
_MANY = 1 << 30

_Key = tuple[object, ...]
# Filled as problems come; never shared between processes.
launch_table: dict[_Key, Launch] = {}


def launcher(m: int, weight: PreparedWeight) -> Launch:
    """The function that computes y_MN for M ≥ 1 tokens: `launch(x_MK, weight, bias_N)`.

    Raises:
        UsageError: the GPU is too old for the kernels.
    """
    bucket = (m - 1).bit_length()
    launch: Launch | None = weight.memo.get(bucket)
    if launch is None:
        launch = weight.memo[bucket] = _shared_launch(min(_LAST_BUCKET, bucket), weight)
    return launch


def _shared_launch(bucket: int, weight: PreparedWeight) -> Launch:
    """The launch of a bucket, resolved once for all weights of one shape and format."""
    key = launch_key(bucket, weight)
    launch = launch_table.get(key)
    if launch is None:
        launch = launch_table[key] = _resolved(M_BUCKETS[bucket], weight)
    return launch


def launch_key(bucket: int, weight: PreparedWeight) -> _Key:
    """What a launch is resolved for: place of the bucket in `M_BUCKETS`, device, format and shape."""
    return (
        bucket, weight.device, weight.dtype, weight.b_NR.dtype, weight.bits, weight.n, weight.k, weight.b_NR.shape[1],
        weight.decoder, weight.a_columns is None,
    )  # fmt: skip


def formula_kernel(m: int, weight: PreparedWeight) -> str:
    """The kernel that serves M tokens where no table says otherwise: the first of its route that supports them."""
    route = next(route for route in ROUTES if route.max_m is None or m <= route.max_m)
    kernels = route.kernels
    # By its machine code, 5 to 119 registers of scale_tile spill on AMD's RDNA above 8 tokens and at 3 bits; none of
    # the GEMM.
    if (
        (m > _RDNA_FEW_TOKENS or weight.bits == _RDNA_WIDE_BITS)
        and kernels[0] == "scale_tile"
        and kernel_module("common.gpu").gpu_of(weight.device).is_rdna
    ):
        kernels = ("scale_tile_gemm", *kernels)
    return next(name for name in kernels if takes(name, m, weight))


def kernels_for(bucket: int, weight: PreparedWeight) -> tuple[str, ...]:
    """Every kernel that takes all of an M bucket, that of the formula first, then those of smaller M first."""
    tokens = _tokens(bucket)
    first = formula_kernel(tokens, weight)
    return (first, *(name for name in ROUTED if name != first and takes(name, tokens, weight)))


def _tokens(bucket: int) -> int:
    return bucket if bucket < M_BUCKETS[-1] else _MANY


def served_by(m: int, weight: PreparedWeight) -> Found:
    """Kernel and settings that serve M tokens, and where they come from: a tuned table, or the formula.

    The answer is that of the whole M bucket. Settings () are the kernel's own rule.
    """
    bucket = M_BUCKETS[min(_LAST_BUCKET, (m - 1).bit_length())]
    tokens = _tokens(bucket)
    formula = Choice(kernel=formula_kernel(tokens, weight))
    machine = machine_of(weight.device)
    if machine is None or weight.decoder == REFERENCE or not active_entries().all():
        return Found(choice=formula, origin="formula")
    problem = problem_of(bucket, weight)
    return choose(
        active_entries(),
        formula,
        key_of=lambda kernel: key_of(kernel, problem, machine),
        takes=lambda kernel: takes(kernel, tokens, weight),
    )


def kernel_name(m: int, dtype: torch.dtype, weight: PreparedWeight) -> str:
    """Name of the kernel that serves M tokens of `dtype`, which the weight was prepared for."""
    assert weight.dtype in (None, dtype)
    return served_by(m, weight).choice.kernel


def check_capability(name: str, capability: tuple[int, int]) -> None:
    """Refuse an NVIDIA GPU that the kernels do not compile for.

    Raises:
        UsageError: naming the GPU and what to use instead.
    """
    if capability < MIN_CAPABILITY:
        sm = "".join(map(str, capability))
        raise UsageError(f"{name} (sm_{sm}) is older than sm_80, which the kernels need; use x @ weight.dequantize().T")


def bound_launch(choice: Choice) -> Launch:
    """The launch of a kernel with the chosen configuration, or with its own rule where there are no settings.

    Raises:
        RecordError: settings that the kernel does not know.
    """
    launch, config = KERNELS[choice.kernel].launch, config_of(choice.kernel, choice.settings)
    return lambda x_MK, weight, bias_N: launch(x_MK, weight, bias_N, config)


def takes(kernel: str, m: int, weight: PreparedWeight) -> bool:
    """Whether a registered kernel takes M tokens times the weight."""
    return kernel in KERNELS and KERNELS[kernel].supports(m, weight, weight.dtype or torch.float32).ok


def _resolved(bucket: int, weight: PreparedWeight) -> Launch:
    if weight.device.type != "cuda" and weight.decoder == REFERENCE:
        return bound_launch(Choice(kernel="reference"))
    if weight.device.type == "cuda" and torch.version.hip is None:
        check_capability(torch.cuda.get_device_name(weight.device), torch.cuda.get_device_capability(weight.device))
    found = served_by(bucket, weight)
    if found.choice.kernel == "reference":
        reason = KERNELS["dequantize_matmul"].supports(1, weight, weight.dtype or torch.float32).reason
        warnings.warn(f"a LoRDS product runs in plain PyTorch, which is slow: {reason}", stacklevel=6)
    if found.origin == "nearest":
        changed = ", ".join(map(str, found.differences))
        warnings.warn(
            f"no tuned entry for M ≤ {bucket} at {weight.n}×{weight.k}; {found.choice.kernel} runs as tuned for a "
            f"similar problem ({changed}); `lords-bench tune` measures this one",
            stacklevel=6,
        )
    try:
        return bound_launch(found.choice)
    except RecordError as error:
        warnings.warn(f"a tuned entry is not used: {error}", stacklevel=6)
        return bound_launch(Choice(kernel=formula_kernel(bucket, weight)))
