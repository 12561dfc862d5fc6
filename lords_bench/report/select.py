"""Which records stand together, and which record of a case is shown, whatever the suite.

Records with different inputs or devices are never put together. Within one evaluation each case has one record; what is
older is counted, what failed is listed, and a case that was planned but left no record is named. Every choice depends
on the content of the records, never on their order.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lords_bench.errors import RecordError
from lords_bench.records import BenchRecord, LifecycleRecord
from lords_bench.records.codec import canonical_json, to_plain
from lords_bench.records.latency import LatencyRecord

Item = TypeVar("Item")
Key = TypeVar("Key")
Record = TypeVar("Record", BenchRecord, LifecycleRecord)
Dated = TypeVar("Dated", BenchRecord, LatencyRecord, LifecycleRecord)


def age(record: BenchRecord | LatencyRecord | LifecycleRecord) -> tuple[str, str]:
    """Orders records by time, then by content, so that equal times are decided the same way everywhere."""
    return record.created_utc, hashlib.sha256(canonical_json(to_plain(record)).encode()).hexdigest()


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items by key, in the order of appearance."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def put_together(records: Iterable[Dated], key: Callable[[Dated], str], *, nothing: str) -> list[list[Dated]]:
    """The records of each key, those measured last first.

    Raises:
        RecordError: there is no record; `nothing` says so.
    """
    # A line that is there twice is one record, and no older one.
    groups = grouped(dict.fromkeys(records), key)
    if not groups:
        raise RecordError(nothing)
    return sorted(groups.values(), key=lambda members: max(map(age, members)), reverse=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation(Generic[Record]):
    """Records that may be compared: one suite, one set of inputs, one device.

    Attributes:
        records: the one that is shown of each case, by case id.
        failures: those of cases that ended badly, and were not measured again since.
        missing: ids of cases that a run planned and that left no record.
        superseded: how many older records of the same cases are not shown.
    """

    records: tuple[Record, ...]
    failures: tuple[Record, ...]
    missing: tuple[str, ...]
    superseded: int

    @property
    def newest(self) -> Record:
        """The record made last; its inputs and device are those of all."""
        return max(self.records + self.failures, key=age)

    @property
    def runs(self) -> tuple[Record, ...]:
        """The newest shown record of each run key, newest first: more than one means that runs are put together."""
        newest = {record.run_key: record for record in sorted(self.records or self.failures, key=age)}
        return tuple(sorted(newest.values(), key=age, reverse=True))


def evaluate(
    members: Sequence[Record], choose: Callable[[list[Record]], tuple[Record | None, Record | None]]
) -> Evaluation[Record]:
    """The evaluation of records that may be compared.

    Args:
        members: the records.
        choose: of all records of a case, oldest first, the one to be shown and the failure to be listed.
    """
    cases = grouped(members, lambda record: record.case_id)
    chosen = [choose(sorted(cases[case_id], key=age)) for case_id in sorted(cases)]
    records = tuple(shown for shown, _ in chosen if shown is not None)
    failures = tuple(failure for _, failure in chosen if failure is not None)
    planned = {case_id for record in members for case_id in record.planned_case_ids}
    return Evaluation(
        records=records,
        failures=failures,
        missing=tuple(sorted(planned - set(cases))),
        superseded=len(members) - len(records) - len(failures),
    )
