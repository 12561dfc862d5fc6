"""What latency records must be before their times are compared: counted once, possible, and of one yardstick.

A process is one sample. The same record twice, or a copy under another name, is not a second one. What no code of this
project can change (the operations of a product, the dense product's own time) may not differ between the sides.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import median

from lords_bench.gate.benchmarks import FOREIGN, LAYER, Key, name
from lords_bench.gate.finding import Finding, Level
from lords_bench.records.latency import DENSE, DENSE_AGAIN, LatencyRecord
from lords_bench.records.measurement import Measurement, above_ceiling
from lords_bench.stats.median import LEAST

# Rounds that may be dropped for a cause before the rest says nothing either; the protocol's own rule.
MOST_DROPPED = 0.2
# A clock below 75 % of its median is dropped within a process; between processes no more than that is believed.
MOST_DENSE_DRIFT = 1.5
# Enough different values that a series of them is not the same by chance, however coarse the timer.
TELLING_VALUES = 3

_Samples = tuple[Key, tuple[float, ...]]


def counted_once(records: Iterable[LatencyRecord]) -> tuple[LatencyRecord, ...]:
    """The records without those that are there already: a repeated record is no second process."""
    return tuple(dict.fromkeys(records))


def unbelievable(baseline: Sequence[LatencyRecord], head: Sequence[LatencyRecord]) -> Iterator[Finding]:
    """Findings about records that are repeated, copied or cannot be true, on either side; the records as they came."""
    for side, records in (("baseline", baseline), ("head", head)):
        repeated = len(records) - len(counted_once(records))
        if repeated:
            what = f"{repeated} of the {side}'s {len(records)} records are there more than once; each is counted once"
            yield Finding(benchmark=LAYER, level=Level.WARNING, what=what)
        once = counted_once(records)
        yield from _in_words(side, _two_of_one_process(once))
        yield from _in_words(side, _impossible(once))
    yield from _copies(counted_once(baseline), counted_once(head))
    yield from _other_bits(baseline, head)
    yield from _other_dense(baseline, head)


def _in_words(side: str, found: Iterable[tuple[LatencyRecord, str]]) -> Iterator[Finding]:
    """One finding a benchmark and reason, with the number of records that it holds for."""
    counted: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record, what in found:
        rule, _, value = what.partition(": ")
        counted[name(_key(record)), rule].append(value)
    for (benchmark, rule), values in counted.items():
        more = f", and {len(values) - 1} records more" if len(values) > 1 else ""
        text = f"the {side}'s record cannot be true: {rule}" + (f" ({values[0]}{more})" if values[0] else more)
        yield Finding(benchmark=benchmark, level=Level.INVALID, what=f"{text}; time this side again")


def _two_of_one_process(records: Sequence[LatencyRecord]) -> Iterator[tuple[LatencyRecord, str]]:
    seen: set[tuple[str, Key]] = set()
    for record in records:
        identity = (record.run.run_id, _key(record))
        if identity in seen:
            yield record, f"one process has two different records of it: process {record.run.run_id}"
        seen.add(identity)


def _impossible(records: Sequence[LatencyRecord]) -> Iterator[tuple[LatencyRecord, str]]:
    dense = {record.comparison_id: record.measurement for record in records if record.method == DENSE}
    again = {r.comparison_id for r in records if r.method == DENSE_AGAIN and r.measurement is not None}
    for record in records:
        measured = record.measurement
        if measured is None:
            continue
        yield from ((record, what) for what in _of_record(record, measured))
        control = dense.get(record.comparison_id)
        if record.method not in FOREIGN and record.comparison_id not in again:
            yield (
                record,
                f"the dense product was not timed against itself, so there is no noise floor: {record.comparison_id}",
            )
        if control is None:
            yield record, f"its comparison has no dense product: {record.comparison_id}"
        elif len(control.samples_ns) != len(measured.samples_ns):
            rounds = f"{len(measured.samples_ns)} against {len(control.samples_ns)}"
            yield record, f"it and the dense product of its comparison have different numbers of rounds: {rounds}"
        elif (
            record.method != DENSE and measured.n >= LEAST and len({*measured.kept_ns}) == len({*control.kept_ns}) == 1
        ):
            yield record, f"no round differs from another in it and in the dense product: {measured.median_ns:g} ns"


def _of_record(record: LatencyRecord, measured: Measurement) -> Iterator[str]:
    case = record.case
    above = above_ceiling(measured, record.run.peaks, bytes_moved=record.bytes_moved, flops=record.flops)
    if above is not None:
        yield f"it is faster than the device: {above}"
    if record.flops is not None and record.flops != case.shape.flops:
        yield f"a product of this shape has other operations: {record.flops} counted, {case.shape.flops} due"
    weights = case.n * case.k
    if record.bytes_moved is not None and 8 * record.bytes_moved < (record.bits_per_weight or 0.0) * weights:
        yield f"it moves less than it stores: {record.bytes_moved} bytes of {record.bits_per_weight} bits per weight"
    if len(measured.dropped) > MOST_DROPPED * len(measured.samples_ns):
        yield f"too many rounds were dropped: {len(measured.dropped)} of {len(measured.samples_ns)}"
    if record.method in FOREIGN:
        return
    if record.bits_per_weight is None or record.bits_per_weight < case.bits:
        yield f"its codes alone need more: {record.bits_per_weight} bits per weight of {case.bits}"
    if not record.worst_error:
        yield f"its result was not checked, or is exact in low precision: worst error {record.worst_error}"


def _copies(baseline: Sequence[LatencyRecord], head: Sequence[LatencyRecord]) -> Iterator[Finding]:
    """Times of two processes do not agree to the last digit, round after round."""
    first: dict[_Samples, tuple[str, str]] = {}
    found: dict[tuple[str, str, str, str], str] = {}
    for side, records in (("baseline", baseline), ("head", head)):
        for record in records:
            if record.measurement is None or len({*record.measurement.samples_ns}) < TELLING_VALUES:
                continue
            here = (side, record.run.run_id)
            there = first.setdefault((_key(record), record.measurement.samples_ns), here)
            if there != here:
                found.setdefault((*there, *here), name(_key(record)))
    for (side, run_id, other_side, other_run), benchmark in found.items():
        what = (
            f"process {other_run} of the {other_side} is a copy of process {run_id} of the {side}: equal samples to "
            "the last digit, and no second process; time this side again"
        )
        yield Finding(benchmark=benchmark, level=Level.INVALID, what=what)


def _other_bits(baseline: Sequence[LatencyRecord], head: Sequence[LatencyRecord]) -> Iterator[Finding]:
    """Stored bits are counted, not timed: they change with the format alone."""
    sides = [_values(records, lambda record: record.bits_per_weight) for records in (baseline, head)]
    for key, before in sides[0].items():
        after = sides[1].get(key)
        if key[2] in FOREIGN or not after or before == after:
            continue
        shown = f"bits per weight {_listed(before)} → {_listed(after)}"
        if max(after) > max(before):
            yield Finding(benchmark=name(key), level=Level.REGRESSION, what=f"stores more: {shown}")
        else:
            what = f"{shown} at one specification: another format, or miscounted; compare formats in a suite"
            yield Finding(benchmark=name(key), level=Level.INVALID, what=what)


def _other_dense(baseline: Sequence[LatencyRecord], head: Sequence[LatencyRecord]) -> Iterator[Finding]:
    """The dense product is the library's: what moves it is the machine or the clock, and moves every ratio."""
    sides = [
        _values(
            (record for record in records if record.method in (DENSE, DENSE_AGAIN)),
            lambda record: None if record.measurement is None else record.measurement.median_ns,
        )
        for records in (baseline, head)
    ]
    for key in sorted(sides[0].keys() & sides[1].keys()):
        times = [*sides[0][key], *sides[1][key]]
        middle = median(times)
        if max(times) > MOST_DENSE_DRIFT * middle or min(times) < middle / MOST_DENSE_DRIFT:
            what = (
                f"the dense product took {min(times) / 1e3:.4g} to {max(times) / 1e3:.4g} µs in processes of one "
                "machine, and no code of this project touches it; give the machine rest and time both sides again"
            )
            yield Finding(benchmark=name(key), level=Level.INVALID, what=what)


def _values(
    records: Iterable[LatencyRecord], value_of: Callable[[LatencyRecord], float | None]
) -> Mapping[Key, set[float]]:
    found: dict[Key, set[float]] = defaultdict(set)
    for record in records:
        value = value_of(record)
        if value is not None:
            found[_key(record)].add(value)
    return found


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in sorted(values))


def _key(record: LatencyRecord) -> Key:
    return record.case.case_id, record.regime, record.method
