"""Rows of the accuracy tables: which cases stand side by side at equal measured bits, and what each is compared with.

Cases of the same nominal bits are put into `BitsGroup`s by their *measured* bits per weight. A group is anchored at a
NormalFloat baseline (`nf4`, `nf3`, `nf2`) of one block size; where none was run, at cases that store equal bits. What
stores bits that no other case stores is kept apart: it belongs on the bits–KL curve and is compared with nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lords_bench.records import AccuracySamples, BenchRecord
from lords_bench.report.metrics import METRICS
from lords_bench.report.select import Evaluation, comparison_refusal, equal_bits
from lords_bench.stats import Interval, Outcome, PairedDifference


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A case against a baseline of its group.

    `differences` is keyed by metric name and empty where `refusal` says why the two cannot be compared.
    """

    subject: BenchRecord
    baseline: BenchRecord
    differences: dict[str, PairedDifference]
    refusal: str | None

    def outcome(self, metric: str) -> Outcome | None:
        """Outcome by that metric, None where it was not compared."""
        difference = self.differences.get(metric)
        return None if difference is None else difference.outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One case with its estimates; `intervals` is keyed by metric name, None where the samples hold none."""

    record: BenchRecord
    samples: AccuracySamples
    bits_per_weight: float | None
    intervals: dict[str, Interval | None]

    @property
    def kl(self) -> float:
        """Divergence from the unquantized model in nats per token."""
        return self.samples.kl_nats_per_token

    @property
    def marks(self) -> tuple[str, ...]:
        """Why the row is to be read with care."""
        marks = []
        if not self.record.complete:
            marks.append("partial")
        if self.record.environment.git_dirty:
            marks.append("uncommitted code")
        if self.record.environment.git_dirty is None:
            marks.append("unknown commit")
        return tuple(marks)


@dataclass(frozen=True, kw_only=True, slots=True)
class BitsGroup:
    """Cases of one nominal number of bits that store equal bits per weight: lowest KL first, partial ones last.

    `is_comparable` is False for the group of left-over cases, which store different bits.
    """

    bits: int
    bits_per_weight: float | None
    rows: tuple[Row, ...]
    is_comparable: bool

    def row(self, method: str) -> Row | None:
        """The row of that method (`nf` stands for `nf4`, `nf3` or `nf2`), or None."""
        name = f"nf{self.bits}" if method == "nf" else method
        return next((row for row in self.rows if row.record.method == name), None)

    def compare(self, subject: str, baseline: str) -> Comparison | None:
        """The paired comparison of two methods of the group, None where one is not in it."""
        first, second = self.row(subject), self.row(baseline)
        if first is None or second is None or not self.is_comparable:
            return None
        return compare(first.record, second.record)


def compare(subject: BenchRecord, baseline: BenchRecord) -> Comparison:
    """Paired differences by every metric, or the reason why there are none."""
    refusal = comparison_refusal(subject, baseline)
    differences: dict[str, PairedDifference] = {}
    if refusal is None and subject.samples is not None and baseline.samples is not None:
        found = {name: metric.difference(subject.samples, baseline.samples) for name, metric in METRICS.items()}
        differences = {name: difference for name, difference in found.items() if difference is not None}
    return Comparison(subject=subject, baseline=baseline, differences=differences, refusal=refusal)


def make_rows(records: Iterable[BenchRecord]) -> tuple[Row, ...]:
    """A row for every record that has samples."""
    return tuple(
        Row(
            record=record,
            samples=record.samples,
            bits_per_weight=record.samples.bits_per_weight,
            intervals={name: metric.interval(record.samples) for name, metric in METRICS.items()},
        )
        for record in records
        if record.samples is not None
    )


def bits_groups(evaluation: Evaluation) -> tuple[BitsGroup, ...]:
    """Groups of the quantized cases: most bits first, within a nominal number of bits the largest group first."""
    rows = [row for row in make_rows(evaluation.records) if row.record.bits is not None]
    groups: list[BitsGroup] = []
    for bits in sorted({row.record.bits for row in rows if row.record.bits is not None}, reverse=True):
        groups += _groups_of(bits, [row for row in rows if row.record.bits == bits])
    return tuple(groups)


def unquantized_row(evaluation: Evaluation) -> Row | None:
    """The row of the model as it came, None where it was not measured."""
    return next((row for row in make_rows(evaluation.records) if row.record.bits is None), None)


def _groups_of(bits: int, rows: list[Row]) -> list[BitsGroup]:
    """Each row joins the nearest anchor within the tolerance; left-over rows anchor each other, then stand apart."""
    rows = sorted(rows, key=lambda row: (-(row.bits_per_weight or 0.0), row.record.case_id))
    anchors = [row for row in rows if row.record.method == f"nf{bits}"]
    members: dict[str, list[Row]] = {row.record.case_id: [] for row in anchors}
    for row in rows:
        near = [anchor for anchor in anchors if equal_bits(row.record, anchor.record)]
        if not near:
            anchors.append(row)
            members[row.record.case_id] = [row]
            continue
        nearest = min(near, key=lambda anchor: (_distance(row, anchor), anchor.record.case_id))
        members[nearest.record.case_id].append(row)
    groups = [
        BitsGroup(bits=bits, bits_per_weight=anchor.bits_per_weight, rows=_by_kl(found), is_comparable=True)
        for anchor in anchors
        if len(found := members[anchor.record.case_id]) > 1
    ]
    groups.sort(key=lambda group: (-len(group.rows), -(group.bits_per_weight or 0.0)))
    alone = [row for found in members.values() if len(found) == 1 for row in found]
    if alone:
        groups.append(BitsGroup(bits=bits, bits_per_weight=None, rows=_by_kl(alone), is_comparable=False))
    return groups


def _distance(first: Row, second: Row) -> float:
    return abs((first.bits_per_weight or 0.0) - (second.bits_per_weight or 0.0))


def _by_kl(rows: list[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (not row.record.complete, row.kl, row.record.case_id)))
