"""The device probes' own launches, as a call that a compile worker makes."""

from typing import Any

import torch

from lords_bench.kernels.device_probe import launch as probes
from lords_bench.static.launches import SM_COUNTS


def launch(target: Any, probe: str) -> None:
    """Launch one of the probes on tensors with no memory behind them."""

    def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    if probe == "stamp":
        probes.stamp(empty(probes.MULTIPROCESSOR_PLACES, 2, dtype=torch.int64), 132)
    elif probe == "timer_steps":
        probes.timer_steps(empty(2048, dtype=torch.int64))
    else:
        programs = probes.read_programs(SM_COUNTS[target.name])
        probes.read_all(empty(1 << 28, dtype=torch.float32), empty(programs, dtype=torch.float32))
