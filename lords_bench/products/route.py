"""Which kernel serves a product on a GPU, LoRDS or block-wise: one look-up by M bucket, resolved once per weight.

A tuned table decides where it holds the problem (`lookup.py`); elsewhere the formula, an order of preference
(`routes.py`). A kernel that refuses a problem passes it on to the next, and the first time that ends in plain PyTorch a
warning says so. Baselines take the same route, so where one changes from its fused kernels to dequantize + matmul is
data on a tuned machine, and a comparison does not punish it for a switch point that was chosen for LoRDS.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lords_bench.errors import RecordError, UsageError
from lords_bench.kernels.common.gpu import gpu_of
from lords_bench.kernels.common.prepared import REFERENCE, PreparedWeight
from lords_bench.kernels.common.prepared_blocks import PreparedBlockwise
from lords_bench.products.active import active_entries
from lords_bench.products.keys import key_of, machine_of, problem_of
from lords_bench.products.lookup import Entries, Found, choose
from lords_bench.products.registry import KERNELS, config_of
from lords_bench.products.routes import RoutedKind, preferred, routed
from lords_bench.records.tuned import M_BUCKETS, Choice, Machine, Problem, bucket_place, m_bucket

Weight = PreparedWeight | PreparedBlockwise
Launch = Callable[[Tensor, Any, Tensor | None], Tensor]


MIN_CAPABILITY = (8, 0)

_RDNA_FEW_TOKENS = 8
_RDNA_WIDE_BITS = 3
# `rank_expanded` decodes once for all ranks but multiplies once for each: by its machine code (sm_90, 4 bits) it takes
# all 255 registers at rank 32, where `scale_tile` takes 119, and spills 1,008 bytes at rank 64.
_MAX_EXPANDED_RANK = 16

# Tokens in the last bucket, which has no end: what serves it must take any number.
_MANY = 1 << 30

_Key = tuple[object, ...]
# Filled as problems come; never shared between processes.
launch_table: dict[_Key, Launch] = {}


def launcher(m: int, weight: Weight) -> Launch:
    """The function that computes y_MN for M ≥ 1 tokens: `launch(x_MK, weight, bias_N)`.

    Raises:
        UsageError: the GPU is too old for the kernels, or no kernel takes the weight.
    """
    bucket = bucket_place(m)
    launch: Launch | None = weight.memo.get(bucket)
    if launch is None:
        launch = weight.memo[bucket] = _shared_launch(bucket, weight)
    return launch


def _shared_launch(bucket: int, weight: Weight) -> Launch:
    """The launch of a bucket, resolved once for all weights of one shape and format."""
    key = launch_key(bucket, weight)
    launch = launch_table.get(key)
    if launch is None:
        launch = launch_table[key] = _resolved(M_BUCKETS[bucket], weight)
    return launch


def launch_key(bucket: int, weight: Weight) -> _Key:
    """What a launch is resolved for: place of the bucket in `M_BUCKETS`, device, format and shape."""
    if isinstance(weight, PreparedBlockwise):
        operands = weight.operands
        return (
            bucket, weight.device, weight.dtype, operands.scale_NG.dtype, operands.bits, weight.n, weight.k,
            operands.block, operands.levels.decoder, operands.zero_NG is None, weight.adapter is None,
        )  # fmt: skip
    return (
        bucket, weight.device, weight.dtype, weight.b_NR.dtype, weight.bits, weight.n, weight.k, weight.b_NR.shape[1],
        weight.decoder, weight.a_columns is None,
    )  # fmt: skip


def formula_kernel(m: int, weight: Weight) -> str:
    """The kernel that serves M tokens where no table says otherwise: the first of its route that supports them.

    Raises:
        UsageError: no kernel takes the weight, which may happen to a block-wise one.
    """
    kernels = preferred(_kind(weight), m)
    if isinstance(weight, PreparedWeight):
        kernels = _without_spills(m, weight, kernels)
    found = next((name for name in kernels if takes(name, m, weight)), None)
    if found is None:
        raise UsageError(KERNELS[kernels[-1]].supports(m, weight, _dtype_of(weight)).reason)
    return found


def _without_spills(m: int, weight: PreparedWeight, kernels: tuple[str, ...]) -> tuple[str, ...]:
    """A route less the kernels whose machine code runs out of registers for the weight."""
    if kernels[0] == "rank_expanded" and weight.b_NR.shape[1] > _MAX_EXPANDED_RANK:
        kernels = kernels[1:]
    # 5 to 119 registers of scale_tile spill on AMD's RDNA above 8 tokens and at 3 bits; none of the GEMM.
    if (
        (m > _RDNA_FEW_TOKENS or weight.bits == _RDNA_WIDE_BITS)
        and kernels[0] == "scale_tile"
        and gpu_of(weight.device).is_rdna
    ):
        kernels = ("scale_tile_gemm", *kernels)
    return kernels


def kernels_for(bucket: int, weight: Weight) -> tuple[str, ...]:
    """Every kernel that takes all of an M bucket, that of the formula first, then those of smaller M first."""
    tokens = tokens_of(bucket)
    first = formula_kernel(tokens, weight)
    return (first, *(name for name in routed(_kind(weight)) if name != first and takes(name, tokens, weight)))


def tokens_of(bucket: int) -> int:
    """Tokens that what serves a bucket must take: those of its end, and any number in the last."""
    return bucket if bucket < M_BUCKETS[-1] else _MANY


def served_by(m: int, weight: Weight) -> Found:
    """Kernel and settings that serve M tokens, and where they come from: a tuned table, or the formula.

    The answer is that of the whole M bucket. Settings () are the kernel's own rule. An entry with settings that its
    kernel does not know serves nobody, which is said.
    """
    bucket = m_bucket(m)
    machine = machine_of(weight.device)
    is_reference = isinstance(weight, PreparedWeight) and weight.decoder == REFERENCE
    if machine is None or is_reference or not active_entries().all():
        return Found(choice=Choice(kernel=formula_kernel(tokens_of(bucket), weight)), origin="formula")
    return found_for(problem_of(bucket, weight), weight, machine, active_entries())


def found_for(problem: Problem, weight: Weight, machine: Machine, entries: Entries) -> Found:
    """What tables say of a weight's problem on a machine, present or not, or else the formula.

    Raises:
        UsageError: no kernel takes the weight.
    """
    tokens = tokens_of(problem.m_bucket)
    formula = Choice(kernel=formula_kernel(tokens, weight))
    found = choose(
        entries,
        formula,
        key_of=lambda kernel: key_of(kernel, problem, machine),
        takes=lambda kernel: takes(kernel, tokens, weight),
    )
    try:
        config_of(found.choice.kernel, found.choice.settings)
    except RecordError as error:
        warnings.warn(f"a tuned entry is not used: {error}", stacklevel=8)
        return Found(choice=formula, origin="formula")
    return found


def kernel_name(m: int, dtype: torch.dtype, weight: Weight) -> str:
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


def takes(kernel: str, m: int, weight: Weight) -> bool:
    """Whether a registered kernel takes M tokens times the weight."""
    known = KERNELS.get(kernel)
    return known is not None and known.weight == _kind(weight) and known.supports(m, weight, _dtype_of(weight)).ok


def _kind(weight: Weight) -> RoutedKind:
    return "lords" if isinstance(weight, PreparedWeight) else "blockwise"


def _dtype_of(weight: Weight) -> torch.dtype:
    return weight.dtype or torch.float32


def _resolved(bucket: int, weight: Weight) -> Launch:
    is_reference = isinstance(weight, PreparedWeight) and weight.decoder == REFERENCE
    if weight.device.type != "cuda" and is_reference:
        return bound_launch(Choice(kernel="reference"))
    if weight.device.type == "cuda" and torch.version.hip is None:
        check_capability(torch.cuda.get_device_name(weight.device), torch.cuda.get_device_capability(weight.device))
    found = served_by(bucket, weight)
    if found.choice.kernel == "reference":
        reason = KERNELS["dequantize_matmul"].supports(1, weight, _dtype_of(weight)).reason
        warnings.warn(f"a LoRDS product runs in plain PyTorch, which is slow: {reason}", stacklevel=6)
    if found.origin == "nearest":
        changed = ", ".join(map(str, found.differences))
        warnings.warn(
            f"no tuned entry for M ≤ {bucket} at {weight.n}×{weight.k}; {found.choice.kernel} runs as tuned for a "
            f"similar problem ({changed}); `lords-bench tune` measures this one",
            stacklevel=6,
        )
    return bound_launch(found.choice)
