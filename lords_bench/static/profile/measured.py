"""Which measured time belongs to a profiled product: the newest cold record of that very launch, where there is one."""

from collections.abc import Sequence
from pathlib import Path

from lords_bench.records.latency import LatencyRecord
from lords_bench.records.status import Status
from lords_bench.records.store import read_nouns
from lords_bench.records.tuned import Choice
from lords_bench.static.bounds import GpuModel
from lords_bench.static.profile.measure import Asked

# Kernels pad a rank to a multiple of this.
_RANK_UNIT = 16


def latency_records(out: Path) -> tuple[LatencyRecord, ...]:
    """The latency records of every device below a folder of results."""
    paths = sorted((out / "records").glob("*/latency.jsonl"))
    return tuple(record for path in paths for record in read_nouns(path, LatencyRecord).records)


def measured_us(asked: Asked, choice: Choice, gpu: GpuModel, records: Sequence[LatencyRecord]) -> float | None:
    """Median time of the newest record of a product, microseconds; None without one.

    A record counts if it is of that GPU, shape, bits, rank or block, and number type, cold and not of a fake device,
    and ran that kernel in that configuration.
    """
    found = [
        record
        for record in records
        if record.status is Status.OK
        and not record.run.is_fake
        and record.regime == "cold"
        and record.run.dtype == asked.dtype
        and gpu.name.casefold() in record.run.environment.device_name.casefold()
        and record.kernel is not None
        and record.kernel.split()[0] == choice.kernel
        and (record.config == choice.settings if choice.settings else record.config_origin in (None, "formula"))
        and _is_of(record, asked, choice.kernel)
    ]
    if not found:
        return None
    newest = max(found, key=lambda record: record.created_utc)
    assert newest.measurement is not None
    return newest.measurement.median_ns / 1000


def _is_of(record: LatencyRecord, asked: Asked, kernel: str) -> bool:
    from lords_bench.kernel_registry import named_kernel

    case = record.case
    if (case.m, case.n, case.k, case.bits) != (asked.m, asked.n, asked.k, asked.bits):
        return False
    if named_kernel(kernel).weight != "lords":
        return case.block == asked.block
    return _padded(case.rank) == _padded(asked.rank)


def _padded(rank: int) -> int:
    return -(-rank // _RANK_UNIT) * _RANK_UNIT
