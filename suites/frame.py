"""Records as a pandas data frame, to be looked into by other tools than this project's pages.

    frame = read_frame(Path("reports/records/cpu/accuracy.jsonl"))
    frame.groupby(["bits", "method"])["kl"].median()

One row per record, one column per number or text that it holds, named by its path (`environment.gpu_name`); lists, raw
samples among them, are Python lists. What a page would show of the samples stands beside them: for accuracy each
metric with its interval (`kl`, `kl.low`, `kl.high`), for times `measurement.median_ns` and its like.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lords_bench.errors import RecordError
from lords_bench.records.bench import BenchRecord
from lords_bench.records.codec import to_plain
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.measurement import Measurement
from lords_bench.records.store import NounFile, read_any
from lords_bench.suites.accuracy.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

DERIVED_TIMES = ("n", "min_ns", "q1_ns", "median_ns", "q3_ns", "p95_ns", "median_clock_mhz")


def read_frame(path: Path) -> "pd.DataFrame":
    """The believable records of a file of any kind, in file order; a line that is not believed is left out.

    Raises:
        RecordError: no such file, or no line of it is a record; pandas is not installed.
        StoreError: the file cannot be read.
    """
    return to_frame(read_any(path))


def to_frame(found: NounFile[Any]) -> "pd.DataFrame":
    """What was read from a file, one row per record.

    Raises:
        RecordError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise RecordError("tables of records need pandas; pip install 'lords_bench[frame]'") from None
    return pd.DataFrame(list(map(_row, found.records)))


def csv_text(found: NounFile[Any]) -> str:
    """The frame as CSV with a header; lists are JSON, and what is unknown is empty.

    Raises:
        RecordError: pandas is not installed.
    """
    frame = to_frame(found)
    for name in frame.columns:
        frame[name] = [json.dumps(value) if isinstance(value, list) else value for value in frame[name]]
    return str(frame.to_csv(index=False))


def _row(record: object) -> dict[str, Any]:
    row = dict(_flat(to_plain(record)))
    if isinstance(record, BenchRecord) and record.samples is not None:
        for name, metric in METRICS.items():
            interval = metric.estimator.interval(record.samples)
            if interval is not None:
                row |= {name: interval.estimate, f"{name}.low": interval.low, f"{name}.high": interval.high}
    if isinstance(record, LatencyRecord) and isinstance(record.measurement, Measurement):
        row |= {f"measurement.{name}": getattr(record.measurement, name) for name in DERIVED_TIMES}
    return row


def _flat(value: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item
