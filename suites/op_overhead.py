"""What calling a LoRDS product costs on the CPU, beyond `F.linear`: `python -m lords_bench.suites.op_overhead`.

On a CPU the arithmetic of the reference would hide the call, so it is left out: the launch is replaced by one that
only returns a finished result, as a GPU launch returns before its kernel is done. What remains is the Python and
dispatcher work of a call: checks, autograd, the look-up of the launch. The launch itself (Triton's launcher) is not in
it; on a GPU the call with its launch is timed as well.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import linear

from lords_bench import dispatch
from lords_bench.kernel_check import make_case
from lords_bench.ops import lords_matmul, operator_arguments
from lords_bench.prepared import PreparedWeight, prepare

GOAL_US = 8.0
N, K = 64, 128

PLAIN = "F.linear"
INFERENCE = "F.linear, inference mode"
TRAINED = "F.linear, x requires a gradient"
GPU = "F.linear on the GPU"


@dataclass(frozen=True, kw_only=True, slots=True)
class CallTime:
    """Wall time of one call, from rounds of many: the least and the median round.

    Attributes:
        baseline: name of the call that the goal is relative to; None for a baseline itself.
    """

    name: str
    baseline: str | None
    least_us: float
    median_us: float


def time_call(
    name: str, call: Callable[[], object], *, baseline: str | None = None, rounds: int = 200, calls: int = 200
) -> CallTime:
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
    return CallTime(name=name, baseline=baseline, least_us=min(samples_us), median_us=median(samples_us))


def measure(*, rounds: int = 200, calls: int = 200) -> tuple[CallTime, ...]:
    """Every way to call a product beside the `F.linear` of the same mode; the GPU's last, if there is one."""

    def timed(name: str, call: Callable[[], object], baseline: str | None = None) -> CallTime:
        return time_call(name, call, baseline=baseline, rounds=rounds, calls=calls)

    case = make_case(1, N, K, bits=4, rank=16, dtype=torch.float32, device=torch.device("cpu"))
    x, dense_NK = case.x_MK, torch.randn(N, K)
    trained_x = x.clone().requires_grad_()
    weight = prepare(case, torch.float32)
    arguments = operator_arguments(x, weight, None)
    operator = torch.ops.lords_bench.matmul.default
    done_MN = torch.randn(1, N)

    def launch(_x_MK: Tensor, _weight: PreparedWeight, _bias_N: Tensor | None) -> Tensor:
        return done_MN.clone()

    with patch.dict(dispatch.launch_table, {dispatch.launch_key(0, weight): launch}):
        times = [
            timed(PLAIN, lambda: linear(x, dense_NK)),
            timed("lords_matmul", lambda: lords_matmul(x, weight), PLAIN),
            timed("lords_matmul, x of 3 dimensions", lambda: lords_matmul(x[None], weight), PLAIN),
            timed(TRAINED, lambda: linear(trained_x, dense_NK)),
            timed("lords_matmul, x requires a gradient", lambda: lords_matmul(trained_x, weight), TRAINED),
        ]
        with torch.inference_mode():
            times += [
                timed(INFERENCE, lambda: linear(x, dense_NK)),
                timed("lords_matmul, inference mode", lambda: lords_matmul(x, weight), INFERENCE),
                timed("its operator, as compiled graphs call it", lambda: operator(*arguments), INFERENCE),
            ]
    if torch.cuda.is_available():
        on_gpu = make_case(1, N, K, bits=4, rank=16, dtype=torch.bfloat16, device=torch.device("cuda"))
        prepared = prepare(on_gpu, torch.bfloat16)
        dense = torch.randn(N, K, device="cuda", dtype=torch.bfloat16)
        times += [
            timed(GPU, lambda: linear(on_gpu.x_MK, dense)),
            timed("lords_matmul on the GPU, launch included", lambda: lords_matmul(on_gpu.x_MK, prepared), GPU),
        ]
    return tuple(times)


def main() -> None:
    """Print the table, with each call's least difference to its `F.linear` beside the goal."""
    torch.set_num_threads(1)
    times = {found.name: found for found in measure()}
    for name, found in times.items():
        over = (
            "" if found.baseline is None else f"   over it {found.least_us - times[found.baseline].least_us:+6.2f} µs"
        )
        print(f"{name:42} least {found.least_us:6.2f} µs   median {found.median_us:6.2f} µs{over}")  # noqa: T201  (a script prints)
    print(f"goal: at most {GOAL_US:g} µs over F.linear")  # noqa: T201


if __name__ == "__main__":
    main()
