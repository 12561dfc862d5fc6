"""What calling a LoRDS operator costs on the CPU, beyond `F.linear`: `python -m lords_bench.suites.op_overhead`.

On a CPU the arithmetic of the reference would hide the call, so it is left out: the operator's implementation is
measured with a launch that only returns a finished result, as a GPU launch returns before its kernel is done. What
remains is the Python and dispatcher work of `lords_matmul`: checks, autograd, the table look-up, the operands. The
launch itself (Triton's launcher) is not in it; on a GPU, `lords_matmul` itself is timed as well, launch included.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor

from lords_bench import dispatch
from lords_bench.kernel_check import make_case
from lords_bench.kernel_registry import lords_operands
from lords_bench.ops import lords_matmul
from lords_bench.prepared import PreparedWeight, prepare

GOAL_US = 8.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CallTime:
    """Wall time of one call, from rounds of many: the least and the median round."""

    name: str
    least_us: float
    median_us: float


def time_call(name: str, call: Callable[[], object], *, rounds: int = 200, calls: int = 200) -> CallTime:
    """Time `rounds` rounds of `calls` calls with the garbage collector off."""
    samples_us = []
    call()
    gc.disable()
    try:
        for _ in range(rounds):
            start_ns = time.perf_counter_ns()
            for _ in range(calls):
                call()
            samples_us.append((time.perf_counter_ns() - start_ns) / calls / 1000)
    finally:
        gc.enable()
    return CallTime(name=name, least_us=min(samples_us), median_us=median(samples_us))


def measure() -> tuple[CallTime, ...]:
    """`F.linear` first, then the operator without arithmetic, with and without gradients, then on a GPU if any."""
    case = make_case(1, 64, 128, bits=4, rank=16, dtype=torch.float32, device=torch.device("cpu"))
    dense_NK = torch.randn(64, 128)
    done_MN = torch.randn(1, 64)
    # Prepared for kernels, so that the operator takes the path of a GPU up to the launch.
    weight = prepare(case, torch.float32, decoder="table")

    def launch(_x_MK: Tensor, weight: PreparedWeight, _bias_N: Tensor | None) -> Tensor:
        lords_operands(weight)
        return done_MN.clone()

    with (
        patch.object(dispatch, "bound_launch", lambda _name: launch),
        patch.object(dispatch, "launch_table", {}),
    ):
        times = [
            time_call("F.linear", lambda: torch.nn.functional.linear(case.x_MK, dense_NK)),
            time_call("lords_matmul, launch left out", lambda: lords_matmul(case.x_MK, weight)),
        ]
        with torch.inference_mode():
            times.append(time_call("the same, inference mode", lambda: lords_matmul(case.x_MK, weight)))
    if torch.cuda.is_available():
        on_gpu = make_case(1, 64, 128, bits=4, rank=16, dtype=torch.bfloat16, device=torch.device("cuda"))
        prepared = prepare(on_gpu, torch.bfloat16)
        dense = torch.randn(64, 128, device="cuda", dtype=torch.bfloat16)
        times.append(time_call("F.linear on the GPU", lambda: torch.nn.functional.linear(on_gpu.x_MK, dense)))
        times.append(time_call("lords_matmul on the GPU, launch included", lambda: lords_matmul(on_gpu.x_MK, prepared)))
    return tuple(times)


def main() -> None:
    """Print the table, and the least difference to `F.linear` beside its goal."""
    torch.set_num_threads(1)
    times = measure()
    for found in times:
        print(f"{found.name:45} least {found.least_us:6.2f} µs   median {found.median_us:6.2f} µs")  # noqa: T201  (a script prints)
    print(f"over F.linear: {times[1].least_us - times[0].least_us:.2f} µs (goal: at most {GOAL_US:g})")  # noqa: T201


if __name__ == "__main__":
    main()
