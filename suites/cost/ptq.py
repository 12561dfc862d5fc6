"""What quantizing a whole model costs: every linear layer of its shapes, one after the other, on one device.

The weights are synthetic (`cases.synthetic_weight`). The time of a layer is the wall clock of `quantize`, the
device idle before and after; making the weight and judging the result are not in it. A layer that runs out of memory
or fails is a record with its reason, and the next goes on.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from lords_bench.errors import LordsBenchError
from lords_bench.options import SEED
from lords_bench.quant import QuantSpec
from lords_bench.records.cost import CostRecord, CostRun
from lords_bench.records.status import Status, created_now
from lords_bench.reference.methods import quantize
from lords_bench.reference.panels import row_panels
from lords_bench.reference.weights import QuantizedWeight
from lords_bench.suites.cost.cases import ModelShape, synthetic_weight
from lords_bench.timing.failure import failure_of
from lords_bench.timing.memory import MemoryStretch

WARM_UP_SIZE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class PtqJob:
    """What is quantized, how, and where.

    Attributes:
        shape: of the model.
        specs: by the name of the method.
        device: of weights and arithmetic.
        dtype: of the weights.
        seed: of the first layer; each next one has the next.

    Raises:
        UsageError: a seed that no generator takes.
    """

    shape: ModelShape
    specs: dict[str, QuantSpec]
    device: torch.device
    dtype: torch.dtype
    seed: int = 0

    def __post_init__(self) -> None:
        SEED.check("seed", self.seed)

    def cases(self) -> tuple[tuple[str, str, int, int, int], ...]:
        """(case, method, N, K, seed) of everything, method by method, layers in model order."""
        return tuple(
            (f"{method}/{name}", method, n, k, self.seed + number)
            for method in self.specs
            for number, (name, n, k) in enumerate(self.shape.linears())
        )


def run_ptq(
    job: PtqJob,
    run: CostRun,
    *,
    done: Collection[str],
    append: Callable[[CostRecord], None],
    seconds: float | None = None,
    now_s: Callable[[], float] = time.monotonic,
) -> int:
    """Quantize every layer that is not done; returns how many were not reached.

    Args:
        job: what to quantize.
        run: what the records share.
        done: cases that an earlier run completed.
        append: takes each record as it comes.
        seconds: no layer is begun after so many; None = no limit.
        now_s: a clock that only runs forward.
    """
    for spec in job.specs.values():
        # Libraries load and handles are created here, outside the first layer's time.
        quantize(_weight(job, WARM_UP_SIZE, WARM_UP_SIZE, job.seed), spec)
    begin, left_out = now_s(), 0
    for case, method, n, k, seed in job.cases():
        if case in done:
            continue
        if seconds is not None and now_s() - begin >= seconds:
            left_out += 1
            continue
        append(_record(job, run, case, method, n, k, seed))
    return left_out


def _record(job: PtqJob, run: CostRun, case: str, method: str, n: int, k: int, seed: int) -> CostRecord:
    spec = job.specs[method]
    on_gpu = job.device.type == "cuda"

    def record(status: Status, reason: str | None) -> CostRecord:
        return CostRecord(
            run=run, suite="ptq", case=case, method=method, shape=(n, k), status=status, reason=reason,
            created_utc=created_now(),
        )  # fmt: skip

    try:
        weight_NK = _weight(job, n, k, seed)
        _wait(job.device)
        before = torch.cuda.memory_allocated() if on_gpu else None
        stretch = MemoryStretch(on_gpu=on_gpu)
        start_s = time.perf_counter()
        quantized = quantize(weight_NK, spec)
        _wait(job.device)
        spent_s = time.perf_counter() - start_s
        peak, start = stretch.peak_bytes, before if on_gpu else stretch.start_bytes
        error = relative_error(weight_NK, quantized)
    except LordsBenchError as error_of_layer:
        return record(Status.UNSUPPORTED, str(error_of_layer).splitlines()[0])
    # Whatever a layer raises is its outcome, and the others go on; out of memory most of all.
    except Exception as raised:  # noqa: BLE001
        failure = failure_of(raised)
        return record(failure.status, failure.reason)
    return CostRecord(
        run=run,
        suite="ptq",
        case=case,
        method=method,
        shape=(n, k),
        status=Status.OK,
        seconds=spent_s,
        held_bytes=sum(int(tensor.nbytes) for tensor in quantized.tensors().values()),
        peak_bytes=None if peak is None or start is None else max(0, peak - start),
        facts=(
            ("bits_per_weight", quantized.bits_per_weight),
            ("rank", spec.rank_for(n, k) if spec.is_low_rank else None),
            ("relative_squared_error", error),
            ("weight_bytes", int(weight_NK.nbytes)),
        ),
        created_utc=created_now(),
    )


def relative_error(weight_NK: torch.Tensor, quantized: QuantizedWeight) -> float:
    """‖W − Ŵ‖² / ‖W‖², summed in float64, a panel of rows at a time."""
    stored_NK = quantized.dequantize()
    lost = torch.zeros((), dtype=torch.float64, device=weight_NK.device)
    size = torch.zeros_like(lost)
    for panel in row_panels(*quantized.shape, weight_NK.device):
        row_PK = weight_NK[panel].double()
        lost += (row_PK - stored_NK[panel].double()).square_().sum()
        size += row_PK.square_().sum()
    return float(lost / size)


def _weight(job: PtqJob, n: int, k: int, seed: int) -> torch.Tensor:
    return synthetic_weight(n, k, seed=seed, device=job.device, dtype=job.dtype)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
