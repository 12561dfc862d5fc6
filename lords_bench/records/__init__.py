"""Nouns of what was measured, and the append-only files they live in. Standard library only.

Read `bench.py` first (one line of a record file), then `accuracy.py` (its samples), `codec.py` (noun ↔ JSON line) and
`store.py` (the file). `lifecycle.py` is the record of a training run.
"""

from lords_bench.records.accuracy import AccuracySamples
from lords_bench.records.bench import BenchRecord, EvaluationInputs, run_key
from lords_bench.records.environment import Environment
from lords_bench.records.lifecycle import LifecycleRecord, LifecycleSamples, TextScores
from lords_bench.records.status import Status
from lords_bench.records.store import (
    NounFile,
    NounStore,
    RecordStore,
    RejectedLine,
    completed,
    read_nouns,
    read_records,
)

__all__ = [
    "AccuracySamples",
    "BenchRecord",
    "Environment",
    "EvaluationInputs",
    "LifecycleRecord",
    "LifecycleSamples",
    "NounFile",
    "NounStore",
    "RecordStore",
    "RejectedLine",
    "Status",
    "TextScores",
    "completed",
    "read_nouns",
    "read_records",
    "run_key",
]
