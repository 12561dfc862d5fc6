"""What finding the kernel of a product costs.

    python -m lords_bench.suites.studies.lookup_speed

Three stages, with a table of 1,300 entries: the first product of a shape (reads the table, hashes the kernels' source,
resolves the launch), another weight of the same shape (shared launch), and every later call (the hot path).
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch

from lords_bench.kernel_check import make_case
from lords_bench.kernels.common.prepared import PreparedWeight, prepare
from lords_bench.products import route, tables
from lords_bench.products.active import active_entries
from lords_bench.products.keys import key_of, problem_of
from lords_bench.products.routes import preferred
from lords_bench.products.tables import write_entry
from lords_bench.records.tuned import M_BUCKETS, Choice, Machine, Speedup, Summary, TunedEntry
from lords_bench.source import source_sha256
from lords_bench.suites.studies.op_overhead import time_calls

MACHINE = Machine(gpu="A GPU", capability=(9, 0), multiprocessors=132, driver="570", triton="3.6.0")
SHAPES = 100
GOAL_US = 2.0
KERNEL = preferred("lords", 8)[0]


def weight_of(n: int, k: int) -> PreparedWeight:
    """A weight for kernels, through the portable decoder."""
    case = make_case(1, n, k, bits=4, rank=16, dtype=torch.float32, device=torch.device("cpu"))
    return prepare(case, torch.float32, decoder="table")


def write_table(folder: Path) -> None:
    """Entries for every M bucket and shapes from 64×128 on."""
    problem = problem_of(1, weight_of(64, 128))
    summary = Summary(samples=30, median_ns=8e3, low_ns=7.9e3, high_ns=8.1e3)
    for bucket in M_BUCKETS:
        for number in range(SHAPES):
            key = key_of(KERNEL, replace(problem, m_bucket=bucket, n=64 * (number + 1)), MACHINE)
            entry = TunedEntry(
                key=key,
                choice=Choice(kernel=KERNEL, settings=(("block_n", 128),)),
                default=Choice(kernel=KERNEL),
                measured=summary,
                default_measured=replace(summary, median_ns=1e4, high_ns=1.1e4),
                speedup=Speedup(median=1.25, low=1.2, high=1.3),
                regime="cold",
                timer="none: made up for this benchmark",
                measured_on="2026-11-22",
            )
            write_entry(entry, folder=folder)


def main() -> None:
    """Print the three stages."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, patch.object(route, "machine_of", lambda _device: MACHINE):
        folder = Path(name)
        write_table(folder)
        weight, other = weight_of(64, 128), weight_of(64, 128)
        with patch.object(tables, "user_folder", lambda: folder):
            active_entries.cache_clear()
            source_sha256.cache_clear()
            begin = time.perf_counter()
            route.launcher(8, weight)
            first_ms = (time.perf_counter() - begin) * 1000
            begin = time.perf_counter()
            route.launcher(8, other)
            shared_us = (time.perf_counter() - begin) * 1e6
        (hot,) = time_calls({"hot": lambda: route.launcher(8, weight)})
    print(f"first product of a shape, {len(M_BUCKETS) * SHAPES} entries: {first_ms:.1f} ms")  # noqa: T201
    print(f"first product of another weight of that shape: {shared_us:.1f} µs")  # noqa: T201
    print(f"every later call: least {hot.least_us:.3f} µs, median {hot.median_us:.3f} µs (goal: below {GOAL_US:g})")  # noqa: T201


if __name__ == "__main__":
    main()
