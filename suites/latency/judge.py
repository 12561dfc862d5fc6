"""Which latency records stand together, what each comparison says, and the verdict on a baseline in numbers and words.

One section per device, nothing mixed. Verdicts, noise floors and ratios are computed here from raw samples; none is
read from a record. Losses and gains are worded alike; what is not resolved says so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum, log

from lords_bench.records.latency import DENSE, DENSE_AGAIN, KERNEL_PREFIX, METHODS, SUBJECT, LatencyCase, LatencyRecord
from lords_bench.records.measurement import REGIMES, Regime, above_ceiling
from lords_bench.records.status import Status
from lords_bench.report.format import listing, number
from lords_bench.report.select import age, grouped, put_together
from lords_bench.stats.verdict import Judgement, Verdict, judge_measurements, measured_floor

_ORDER = {method.name: index for index, method in enumerate(METHODS)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """Bits per code, and the block size whose storage LoRDS' rank matches."""

    bits: int
    block: int

    @property
    def words(self) -> str:
        """As pages have it."""
        return f"{self.bits} bits, blocks of {self.block}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """One comparison: the records whose samples were taken together, and what LoRDS is against each baseline.

    Attributes:
        case: the product.
        regime: what was timed.
        records: by method, in the order of `METHODS`.
        missing: methods of the comparison that have no record.
        noise_floor: relative difference that the dense product showed against itself; None where it was not measured.
        judgements: by baseline; only those where LoRDS and the baseline both have samples.
    """

    case: LatencyCase
    regime: Regime
    records: Mapping[str, LatencyRecord]
    missing: tuple[str, ...]
    noise_floor: float | None
    judgements: Mapping[str, Judgement]

    @property
    def format(self) -> Format:
        """Bits and block."""
        return Format(bits=self.case.bits, block=self.case.block)

    @property
    def layer(self) -> str:
        return f"{self.case.model} {self.case.layer}"

    def median_ns(self, method: str) -> float | None:
        """Median of a method, None where it has no samples."""
        record = self.records.get(method)
        return record.measurement.median_ns if record is not None and record.measurement is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceTimes:
    """Everything that was timed on one device in one dtype.

    Attributes:
        matches: the newest comparison of each case and regime; cases in the order they were first measured.
        superseded: older comparisons of the same cases, which are not shown.
        missing: comparisons that the newest run set out to make and has no record of.
    """

    matches: tuple[Match, ...]
    superseded: int
    missing: int

    @property
    def newest(self) -> LatencyRecord:
        """The record that speaks for the section."""
        return max((record for match in self.matches for record in match.records.values()), key=age)

    @property
    def records(self) -> tuple[LatencyRecord, ...]:
        return tuple(record for match in self.matches for record in match.records.values())

    @property
    def regimes(self) -> tuple[Regime, ...]:
        """Those that were timed, the first of them is the one that verdicts lead with."""
        return tuple(regime for regime in REGIMES if any(match.regime == regime for match in self.matches))

    @property
    def formats(self) -> tuple[Format, ...]:
        """In the order they were first measured."""
        return tuple(dict.fromkeys(match.format for match in self.matches))

    @property
    def baselines(self) -> tuple[str, ...]:
        """What LoRDS was compared with anywhere."""
        found = {baseline for match in self.matches for baseline in match.judgements}
        return tuple(sorted(found, key=_method_order))

    def of(self, regime: Regime, format_: Format) -> tuple[Match, ...]:
        return tuple(match for match in self.matches if match.regime == regime and match.format == format_)


def select_devices(records: Iterable[LatencyRecord]) -> tuple[DeviceTimes, ...]:
    """One section per device, real or fake, and dtype; the one measured last comes first.

    Raises:
        RecordError: there is no latency record.
    """
    nothing = "no latency record to report; run 'lords-bench bench latency' first"
    return tuple(map(_device, put_together(records, lambda record: record.run.comparison_key, nothing=nothing)))


def is_baseline(method: str) -> bool:
    """Whether LoRDS is compared with it: no form of LoRDS, and not the dense product's second samples."""
    return method not in {SUBJECT, DENSE_AGAIN} and not method.startswith(KERNEL_PREFIX)


def _device(members: list[LatencyRecord]) -> DeviceTimes:
    comparisons = grouped(members, lambda record: record.comparison_id)
    of_case = grouped(comparisons.values(), lambda found: (found[0].case.case_id, found[0].regime))
    chosen = [max(attempts, key=_worth) for attempts in of_case.values()]
    newest = max(members, key=age).run
    shown = sum(1 for found in chosen if found[0].run.run_key == newest.run_key)
    return DeviceTimes(
        matches=tuple(_match(found) for found in chosen),
        superseded=len(comparisons) - len(chosen),
        missing=max(0, newest.planned_comparisons - shown),
    )


def _worth(found: list[LatencyRecord]) -> tuple[bool, tuple[str, str]]:
    """A comparison where LoRDS was timed is worth more than one where it was not; then the newer one."""
    timed = any(record.method == SUBJECT and record.status is Status.OK for record in found)
    return timed, max(age(record) for record in found)


def _match(found: list[LatencyRecord]) -> Match:
    ordered = sorted(found, key=lambda record: _method_order(record.method))
    records = {record.method: record for record in ordered}
    floor = _noise_floor(records)
    first = ordered[0]
    return Match(
        case=first.case,
        regime=first.regime,
        records=records,
        missing=tuple(method for method in first.methods if method not in records),
        noise_floor=floor,
        judgements={
            method: judgement
            for method in records
            if is_baseline(method) and (judgement := _judge(records, method, floor)) is not None
        },
    )


def _noise_floor(records: Mapping[str, LatencyRecord]) -> float | None:
    dense, again = (records[name].measurement if name in records else None for name in (DENSE, DENSE_AGAIN))
    return None if dense is None or again is None else measured_floor(dense, again)


def _judge(records: Mapping[str, LatencyRecord], baseline: str, floor: float | None) -> Judgement | None:
    subject = records[SUBJECT].measurement if SUBJECT in records else None
    other = records[baseline].measurement
    if subject is None or other is None or floor is None:
        return None
    for record, measured in ((records[SUBJECT], subject), (records[baseline], other)):
        above = above_ceiling(measured, record.run.peaks, bytes_moved=record.bytes_moved, flops=record.flops)
        if above is not None:
            reason = f"{record.method}: {above}"
            return Judgement(
                verdict=Verdict.INVALID, ratio=None, cycles=None, noise_floor=floor, pairs=0, reason=reason
            )
    return judge_measurements(subject, other, noise_floor=floor)


def _method_order(method: str) -> tuple[int, str]:
    return _ORDER.get(method, len(_ORDER)), method


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """LoRDS against one baseline over some comparisons.

    Attributes:
        baseline: the method.
        judged: (comparison, judgement) pairs that have samples of both, in order.
        failed: comparisons where one of the two ended other than well, by status; never counted as a win or a tie.
    """

    baseline: str
    judged: tuple[tuple[Match, Judgement], ...]
    failed: Mapping[Status, int]

    def count(self, *verdicts: Verdict) -> int:
        """Comparisons with one of these verdicts."""
        return sum(judgement.verdict in verdicts for _, judgement in self.judged)

    @property
    def valid(self) -> tuple[tuple[Match, Judgement, float], ...]:
        """(comparison, judgement, speed-up) of those that have a ratio."""
        return tuple(
            (match, judgement, judgement.speedup)
            for match, judgement in self.judged
            if judgement.verdict is not Verdict.INVALID and judgement.speedup is not None
        )

    @property
    def geomean(self) -> float | None:
        """Geometric mean of the speed-ups, ties and losses included; None without any."""
        logs = [log(speedup) for _, _, speedup in self.valid]
        return exp(fsum(logs) / len(logs)) if logs else None

    @property
    def worst(self) -> tuple[Match, float] | None:
        """The comparison with the least speed-up."""
        return min(((match, speedup) for match, _, speedup in self.valid), key=lambda item: item[1], default=None)

    @property
    def best(self) -> tuple[Match, float] | None:
        """The comparison with the greatest speed-up."""
        return max(((match, speedup) for match, _, speedup in self.valid), key=lambda item: item[1], default=None)

    @property
    def failures(self) -> int:
        """Comparisons without a ratio."""
        return sum(self.failed.values()) + self.count(Verdict.INVALID)


def summarise(matches: Sequence[Match], baseline: str, subject: str) -> Summary:
    """LoRDS against the baseline over the comparisons that were to time both."""
    failed: Counter[Status] = Counter()
    judged = []
    for match in matches:
        if baseline not in match.records and baseline not in match.missing:
            continue
        judgement = match.judgements.get(baseline)
        if judgement is not None:
            judged.append((match, judgement))
            continue
        ends = [match.records[name].status for name in (subject, baseline) if name in match.records]
        failed[next((status for status in ends if status is not Status.OK), Status.INVALID)] += 1
    return Summary(baseline=baseline, judged=tuple(judged), failed=dict(sorted(failed.items())))


def by_m(summary: Summary) -> dict[int, Verdict | None]:
    """M to the verdict that all its comparisons share (None: they differ), in order of M."""
    valid = [(match.case.m, one.verdict) for match, one in summary.judged if one.verdict is not Verdict.INVALID]
    groups = grouped(sorted(valid, key=lambda pair: pair[0]), lambda pair: pair[0])
    found = {m: {verdict for _, verdict in pairs} for m, pairs in groups.items()}
    return {m: next(iter(verdicts)) if len(verdicts) == 1 else None for m, verdicts in found.items()}


WORDS = {
    Verdict.FASTER: "faster",
    Verdict.SAME: "within the noise",
    Verdict.SLOWER: "slower",
    Verdict.AMBIGUOUS: "not resolved",
    None: "mixed",
}
_SAID = (Verdict.FASTER, Verdict.SAME, Verdict.SLOWER, None, Verdict.AMBIGUOUS)


def reached(record: LatencyRecord) -> tuple[float, float] | None:
    """(GB/s, TFLOP/s) of a record by its median; None where the cost or the time is unknown."""
    if record.measurement is None or record.bytes_moved is None or record.flops is None:
        return None
    median_ns = record.measurement.median_ns
    return record.bytes_moved / median_ns, record.flops / median_ns / 1e3


def times(value: float) -> str:
    """A speed-up: `1.43×`, `12.4×`, `0.083×`."""
    return f"{number(value, 1 if value >= 10 else 2 if value >= 0.1 else 3)}×"


def microseconds(value_ns: float) -> str:
    """A time with three digits: `1.23 µs`, `45.6 µs`, `12.3 ms`."""
    value, unit = (value_ns / 1e3, "µs") if value_ns < 1e6 else (value_ns / 1e6, "ms")
    return f"{number(value, 2 if value < 10 else 1 if value < 100 else 0)} {unit}"


def where(match: Match) -> str:
    """Layer and M of a comparison."""
    return f"{match.layer}, M = {match.case.m}"


def ranges(values: Sequence[int], ladder: Sequence[int]) -> str:
    """`1…16 and 256`: runs of the ladder's neighbours are joined."""
    positions = {value: index for index, value in enumerate(ladder)}
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and positions[value] == positions[runs[-1][-1]] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return listing([str(run[0]) if len(run) == 1 else f"{run[0]}…{run[-1]}" for run in runs])


def by_m_words(summary: Summary) -> str:
    """`faster at M = 1…16, mixed at M = 64, slower at M = 256…4096`; empty without a verdict."""
    found = by_m(summary)
    groups = grouped(found, lambda m: found[m])
    return ", ".join(
        f"{WORDS[verdict]} at M = {ranges(groups[verdict], tuple(found))}" for verdict in _SAID if verdict in groups
    )


def counts_words(summary: Summary) -> str:
    """`faster in 16, within the noise in 2, slower in 8, not resolved in 2 of 28; 3 not measured`."""
    order = (Verdict.FASTER, Verdict.SAME, Verdict.SLOWER, Verdict.AMBIGUOUS)
    counted = ", ".join(f"{WORDS[verdict]} in {count}" for verdict in order if (count := summary.count(verdict)))
    failures = f"; {summary.failures} not measured" if summary.failures else ""
    return f"{counted or 'nothing compared'} of {len(summary.valid)}{failures}"


def headline(summaries: Sequence[tuple[str, Summary]], *, where_words: str) -> str:
    """One sentence: `LoRDS is faster than A …; than B …`. Baselines of which nothing was judged are left out."""
    clauses = [f"against {label}: {words}" for label, summary in summaries if (words := by_m_words(summary))]
    if not clauses:
        return f"{where_words}: no verdict, LoRDS and its baselines have no samples taken together."
    return f"{where_words}, LoRDS is, {'; '.join(clauses)}."
