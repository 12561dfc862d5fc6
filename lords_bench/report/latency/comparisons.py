"""Which latency records stand together, and what each comparison says: one section per device, nothing mixed.

Verdicts, noise floors and ratios are computed here from raw samples; none is read from a record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lords_bench.errors import RecordError
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.limits import above_ceiling
from lords_bench.records.measurement import REGIMES, Regime
from lords_bench.records.status import Status
from lords_bench.report.origin import age
from lords_bench.spec.latency import DENSE, DENSE_AGAIN, KERNEL_PREFIX, METHODS, SUBJECT, LatencyCase
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
    def created_utc(self) -> str:
        """When it ended."""
        return next(iter(self.records.values())).created_utc

    def median_ns(self, method: str) -> float | None:
        """Median of a method, None where it has no samples."""
        record = self.records.get(method)
        return record.measurement.median_ns if record is not None and record.measurement is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Everything that was timed on one device in one dtype.

    Attributes:
        matches: the newest comparison of each case and regime; cases in the order they were first measured.
        superseded: older comparisons of the same cases, which are not shown.
        missing: comparisons that the newest run set out to make and has no record of.
    """

    key: str
    matches: tuple[Match, ...]
    superseded: int
    missing: int

    @property
    def newest(self) -> LatencyRecord:
        """The record that speaks for the section."""
        return max((record for match in self.matches for record in match.records.values()), key=age)

    @property
    def records(self) -> tuple[LatencyRecord, ...]:
        """Every record that is shown."""
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
        """The comparisons of one regime and format."""
        return tuple(match for match in self.matches if match.regime == regime and match.format == format_)


def select_sections(records: Iterable[LatencyRecord]) -> tuple[Section, ...]:
    """One section per device, real or fake, and dtype; the one measured last comes first.

    Raises:
        RecordError: there is no latency record.
    """
    groups: dict[str, list[LatencyRecord]] = {}
    for record in records:
        groups.setdefault(record.run.comparison_key, []).append(record)
    if not groups:
        raise RecordError("no latency record to report; run 'lords-bench bench latency' first")
    sections = [_section(key, members) for key, members in groups.items()]
    return tuple(sorted(sections, key=lambda section: age(section.newest), reverse=True))


def is_baseline(method: str) -> bool:
    """Whether LoRDS is compared with it: no form of LoRDS, and not the dense product's second samples."""
    return method not in {SUBJECT, DENSE_AGAIN} and not method.startswith(KERNEL_PREFIX)


def _section(key: str, members: list[LatencyRecord]) -> Section:
    comparisons: dict[str, list[LatencyRecord]] = {}
    for record in members:
        comparisons.setdefault(record.comparison_id, []).append(record)
    of_case: dict[tuple[str, Regime], list[list[LatencyRecord]]] = {}
    for found in comparisons.values():
        of_case.setdefault((found[0].case.case_id, found[0].regime), []).append(found)
    chosen = [max(attempts, key=_worth) for attempts in of_case.values()]
    newest = max(members, key=age).run
    shown = sum(1 for found in chosen if found[0].run.run_key == newest.run_key)
    return Section(
        key=key,
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
