"""The second launch of split-K kernels whose last program does not add up the partial sums itself."""

from typing import Any

import torch
import triton

from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.handle import launch_ready
from lords_bench.kernels.common.ready import Ready
from lords_bench.kernels.common.split_k import sum_partials_kernel

# Outputs of a program.
_SIZE = 256


def ready_sums(m: int, n: int, *, level_unit: float, has_bias: bool, config: Any, gpu: Gpu) -> Ready:
    """y_MN = level_unit · partial.sum(0) + bias, in a fixed order, ready but for the tensors."""
    return Ready(
        grid=(triton.cdiv(n, _SIZE), m),
        constants={"LEVEL_UNIT": level_unit, "HAS_BIAS": has_bias, "AT_ONCE": 8, "SIZE": _SIZE, "num_warps": 4},
        config=config,
        gpu=gpu,
    )


def launch_sums(ready: Ready, partial: torch.Tensor, y_MN: torch.Tensor, bias_N: torch.Tensor | None) -> None:
    """Add up fp32 partial sums (splits, M, N) into y, in a call of `ready_sums`."""
    tensors = (partial, y_MN, y_MN if bias_N is None else bias_N)
    launch_ready(sum_partials_kernel, ready, tensors, (*partial.shape, y_MN.stride(0)))
