"""Which kernel serves a block-wise product, by number of tokens, dtype and device: the baselines' own `dispatch`.

Looked up as a LoRDS product is: the tuned route, else the tuned configuration of the formula's kernel, else the
formula. So where a baseline changes from its fused kernels to dequantize + matmul is data on a tuned machine, and a
comparison does not punish a baseline for a switch point that was chosen for LoRDS.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from lords_bench.dispatch import Route, check_capability
from lords_bench.errors import UsageError
from lords_bench.kernel_registry import KERNELS, PreparedBlockwise, config_of
from lords_bench.records.tuned import M_BUCKETS, Choice, m_bucket
from lords_bench.tuning.active import active_entries
from lords_bench.tuning.keys import BLOCK_ROUTED, block_problem_of, key_of, machine_of
from lords_bench.tuning.lookup import Found, choose

# The switch points of LoRDS, whose kernels have the same tiles.
ROUTES = (
    Route(max_m=32, kernels=("blockwise", "blockwise_gemm", "blockwise_dequantize_matmul")),
    Route(max_m=512, kernels=("blockwise_gemm", "blockwise_dequantize_matmul")),
    Route(max_m=None, kernels=("blockwise_dequantize_matmul",)),
)

# Tokens in the last bucket, which has no end.
_MANY = 1 << 30


def block_matmul(x: Tensor, weight: PreparedBlockwise, bias_N: Tensor | None = None) -> Tensor:
    """Y = x @ Wᵀ + bias for a block-wise weight, by the kernel that serves the number of tokens.

    Args:
        x: (…, K), any leading shape and strides, also empty, in the dtype that the weight was prepared for.
        weight: N×K, without an adapter.
        bias_N: (N,), in the dtype of x.

    Returns:
        (…, N) in the dtype of x.

    Raises:
        UsageError: x, weight and bias that do not fit together, or a GPU without kernels; one line with the remedy.
    """
    if weight.adapter is not None:
        raise UsageError("the weight has an adapter, which a block-wise product would leave out; use a QLoRA kernel")
    if not x.dim() or x.shape[-1] != weight.k or x.device != weight.device or x.dtype != weight.dtype:
        raise UsageError(
            f"x has shape {tuple(x.shape)} and is {x.dtype} on {x.device}; the weight takes (…, {weight.k}) in "
            f"{weight.dtype} on {weight.device}"
        )
    if bias_N is not None and (tuple(bias_N.shape), bias_N.dtype, bias_N.device) != ((weight.n,), x.dtype, x.device):
        raise UsageError(f"bias {tuple(bias_N.shape)} in {bias_N.dtype} does not fit N = {weight.n} in {x.dtype}")
    x_MK = x.reshape(-1, weight.k)
    if not x_MK.shape[0]:
        return x.new_empty(*x.shape[:-1], weight.n)
    bucket = m_bucket(x_MK.shape[0])
    launch = weight.memo.get(bucket)
    if launch is None:
        launch = weight.memo[bucket] = _resolved(bucket, weight)
    y_MN: Tensor = launch(x_MK, weight, bias_N)
    return y_MN.view(*x.shape[:-1], weight.n)


def _resolved(bucket: int, weight: PreparedBlockwise) -> Callable[..., Tensor]:
    if weight.device.type == "cuda" and torch.version.hip is None:
        check_capability(torch.cuda.get_device_name(weight.device), torch.cuda.get_device_capability(weight.device))
    found = blocks_served_by(bucket, weight)
    kernel, settings = found.choice.kernel, found.choice.settings
    if found.origin == "nearest":
        warnings.warn(
            f"no tuned entry for M ≤ {bucket} at {weight.n}×{weight.k} in blocks; {kernel} runs as tuned for a similar "
            f"problem ({', '.join(map(str, found.differences))})",
            stacklevel=3,
        )
    launch, config = KERNELS[kernel].launch, config_of(kernel, settings)
    return lambda x_MK, of, bias_N: launch(x_MK, of, bias_N, config)


def blocks_served_by(m: int, weight: PreparedBlockwise) -> Found:
    """Kernel and settings that serve M tokens, and where they come from; settings () are the kernel's own rule.

    The answer is that of the whole M bucket.
    """
    tokens = _tokens(m_bucket(m))
    formula = Choice(kernel=formula_block_kernel(tokens, weight))
    machine = machine_of(weight.device)
    if machine is None or not active_entries().all():
        return Found(choice=formula, origin="formula")
    problem = block_problem_of(m, weight.operands)
    return choose(
        active_entries(),
        formula,
        key_of=lambda kernel: key_of(kernel, problem, machine),
        takes=lambda kernel: takes_blocks(kernel, tokens, weight),
    )


def formula_block_kernel(m: int, weight: PreparedBlockwise) -> str:
    """The kernel that serves M tokens where no table says otherwise: the first of its route that supports them.

    Raises:
        UsageError: no kernel takes the weight.
    """
    route = next(route for route in ROUTES if route.max_m is None or m <= route.max_m)
    found = next((name for name in route.kernels if takes_blocks(name, m, weight)), None)
    if found is None:
        raise UsageError(KERNELS[route.kernels[-1]].supports(m, weight, weight.dtype).reason)
    return found


def block_kernels_for(bucket: int, weight: PreparedBlockwise) -> tuple[str, ...]:
    """Every kernel that takes all of an M bucket, that of the formula first, then those of smaller M first."""
    tokens = _tokens(bucket)
    first = formula_block_kernel(tokens, weight)
    return (first, *(name for name in BLOCK_ROUTED if name != first and takes_blocks(name, tokens, weight)))


def _tokens(bucket: int) -> int:
    return bucket if bucket < M_BUCKETS[-1] else _MANY


def takes_blocks(kernel: str, m: int, weight: PreparedBlockwise) -> bool:
    """Whether a kernel of the route takes M tokens times the weight."""
    return kernel in BLOCK_ROUTED and KERNELS[kernel].supports(m, weight, weight.dtype).ok
