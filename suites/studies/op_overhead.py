"""What calling a LoRDS product costs on the CPU, beyond `F.linear`.

    python -m lords_bench.suites.studies.op_overhead

On a CPU the arithmetic of the reference would hide the call, so it is left out: the launch is replaced by one that
only returns a finished result, as a GPU launch returns before its kernel is done. What remains is the Python and
dispatcher work of a call: checks, autograd, the look-up of the launch. The launch itself (Triton's launcher) is not in
it; on a GPU the call with its launch is timed as well. A call and its `F.linear` are timed in the same rounds, in an
order that is drawn for each, so that neither gets the quieter minute.
"""

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import linear

from lords_bench.kernel_check import make_case
from lords_bench.kernels.common.prepared import PreparedWeight, prepare
from lords_bench.products import route
from lords_bench.products.ops import lords_matmul, operator_arguments

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


def time_calls(
    calls: Mapping[str, Callable[[], object]], *, baseline: str | None = None, rounds: int = 200, count: int = 200
) -> tuple[CallTime, ...]:
    """Time calls together with the garbage collector off.

    Args:
        calls: by name.
        baseline: which of them the others are compared with; None where there is nothing to compare.
        rounds: in each of which every call has a turn.
        count: calls of a turn.
    """
    samples_us: dict[str, list[float]] = {name: [] for name in calls}
    order, generator = list(calls), random.Random(0)
    for call in calls.values():
        call()
    gc.disable()
    try:
        for _ in range(rounds):
            generator.shuffle(order)
            for name in order:
                call = calls[name]
                start_ns = time.perf_counter_ns()
                for _ in range(count):
                    call()
                samples_us[name].append((time.perf_counter_ns() - start_ns) / count / 1000)
    finally:
        gc.enable()
    return tuple(
        CallTime(
            name=name,
            baseline=None if name == baseline else baseline,
            least_us=min(samples),
            median_us=median(samples),
        )
        for name, samples in samples_us.items()
    )


def measure(*, rounds: int = 200, calls: int = 200) -> tuple[CallTime, ...]:
    """Every way to call a product beside the `F.linear` of the same mode; the GPU's last, if there is one."""
    case = make_case(1, N, K, bits=4, rank=16, dtype=torch.float32, device=torch.device("cpu"))
    x, dense_NK = case.x_MK, torch.randn(N, K)
    trained_x = x.clone().requires_grad_()
    weight = prepare(case, torch.float32)
    arguments = operator_arguments(x, weight, None)
    operator = torch.ops.lords_bench.matmul.default
    done_MN = torch.randn(1, N)

    def launch(_x_MK: Tensor, _weight: PreparedWeight, _bias_N: Tensor | None) -> Tensor:
        return done_MN.clone()

    with patch.dict(route.launch_table, {route.launch_key(0, weight): launch}):
        times = [
            *time_calls(
                {
                    PLAIN: lambda: linear(x, dense_NK),
                    "lords_matmul": lambda: lords_matmul(x, weight),
                    "lords_matmul, x of 3 dimensions": lambda: lords_matmul(x[None], weight),
                },
                baseline=PLAIN, rounds=rounds, count=calls,
            ),
            *time_calls(
                {
                    TRAINED: lambda: linear(trained_x, dense_NK),
                    "lords_matmul, x requires a gradient": lambda: lords_matmul(trained_x, weight),
                },
                baseline=TRAINED, rounds=rounds, count=calls,
            ),
        ]  # fmt: skip
        with torch.inference_mode():
            times += time_calls(
                {
                    INFERENCE: lambda: linear(x, dense_NK),
                    "lords_matmul, inference mode": lambda: lords_matmul(x, weight),
                    "its operator, as compiled graphs call it": lambda: operator(*arguments),
                },
                baseline=INFERENCE,
                rounds=rounds,
                count=calls,
            )
    if torch.cuda.is_available():
        on_gpu = make_case(1, N, K, bits=4, rank=16, dtype=torch.bfloat16, device=torch.device("cuda"))
        prepared = prepare(on_gpu, torch.bfloat16)
        dense = torch.randn(N, K, device="cuda", dtype=torch.bfloat16)
        times += time_calls(
            {
                GPU: lambda: linear(on_gpu.x_MK, dense),
                "lords_matmul on the GPU, launch included": lambda: lords_matmul(on_gpu.x_MK, prepared),
            },
            baseline=GPU,
            rounds=rounds,
            count=calls,
        )
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
