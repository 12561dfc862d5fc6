"""Which accuracy records stand together, side by side at equal measured bits, and the verdict in words.

Of the records of a case the latest complete one is shown.

Cases of the same nominal bits are put into `BitsGroup`s by their *measured* bits per weight. A group is anchored at a
NormalFloat baseline (`nf4`, `nf3`, `nf2`) of one block size; where none was run, at cases that store equal bits. What
stores bits that no other case stores is kept apart: it belongs on the bits–KL curve and is compared with nothing.

Every question of the verdict is answered by the paired difference in KL to the unquantized model. `better` and `worse`
need an interval that excludes 0; everything else is `not resolved`. Losses and gains are worded alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lords_bench.records import AccuracySamples, BenchRecord, Status
from lords_bench.records.plausible import scored_another_model
from lords_bench.report import format as fmt
from lords_bench.report.select import Evaluation, age, evaluate, grouped, put_together
from lords_bench.stats import Interval, PairedDifference, PairedVerdict
from lords_bench.suites.accuracy.metrics import METRICS, PRIMARY, relative


def select_evaluations(records: Iterable[BenchRecord], *, suite: str) -> tuple[Evaluation[BenchRecord], ...]:
    """Group the suite's records into evaluations, the one measured last first.

    Raises:
        RecordError: there is no record of the suite.
    """
    own = (record for record in records if record.suite == suite)
    nothing = f"no record of suite {suite!r}; run 'lords-bench bench' first"
    groups = put_together(own, lambda record: record.comparison_key, nothing=nothing)
    return tuple(evaluate(members, _choose) for members in groups)


def _choose(attempts: list[BenchRecord]) -> tuple[BenchRecord | None, BenchRecord | None]:
    """The latest complete record, and a failure since then."""
    measured = [record for record in attempts if record.status is Status.OK]
    best = max(measured, key=lambda record: (record.complete, age(record)), default=None)
    failure = next((record for record in reversed(attempts) if record.status is not Status.OK), None)
    is_open = failure is not None and (best is None or age(failure) > age(best))
    return best, failure if is_open else None


def comparison_refusal(subject: BenchRecord, baseline: BenchRecord) -> str | None:
    """Why `baseline` cannot serve as the subject's baseline at equal bits, or None if it can.

    A record that is partial is never a baseline; one from a tree with uncommitted changes (or of unknown state) is a
    baseline only within the run that made both.
    """
    if subject.samples is None or baseline.samples is None:
        return "no samples"
    for record in (baseline, subject):
        if not record.complete:
            return f"{record.method} is partial"
    if not baseline.is_clean and baseline.run_key != subject.run_key:
        return f"{baseline.method} comes from an uncommitted tree of another run"
    for record in (baseline, subject):
        if record.bits is not None and record.samples is not None and any(scored_another_model(record.samples)):
            return f"{record.method} has a KL that its weight error cannot give"
    if not equal_bits(subject, baseline):
        return f"bits differ from {baseline.method}"
    return subject.samples.pairing_problem(baseline.samples)


EQUAL_BITS_TOLERANCE = 0.02


def equal_bits(first: BenchRecord, second: BenchRecord) -> bool:
    """Whether both were measured at equal bits per weight, within `EQUAL_BITS_TOLERANCE`."""
    bits = [record.samples.bits_per_weight for record in (first, second) if record.samples is not None]
    if len(bits) < 2 or bits[0] is None or bits[1] is None:
        return False
    # The margin absorbs the rounding of the subtraction: 4.27 against 4.25 counts as equal.
    return abs(bits[0] - bits[1]) <= EQUAL_BITS_TOLERANCE + 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A case against a baseline of its group.

    `differences` is keyed by metric name and empty where `refusal` says why the two cannot be compared.
    """

    subject: BenchRecord
    baseline: BenchRecord
    differences: dict[str, PairedDifference]
    refusal: str | None

    def outcome(self, metric: str) -> PairedVerdict | None:
        """Verdict by that metric, None where it was not compared."""
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
        found = {
            name: metric.estimator.difference(subject.samples, baseline.samples) for name, metric in METRICS.items()
        }
        differences = {name: difference for name, difference in found.items() if difference is not None}
    return Comparison(subject=subject, baseline=baseline, differences=differences, refusal=refusal)


def make_rows(records: Iterable[BenchRecord]) -> tuple[Row, ...]:
    """A row for every record that has samples."""
    return tuple(
        Row(
            record=record,
            samples=record.samples,
            bits_per_weight=record.samples.bits_per_weight,
            intervals={name: metric.estimator.interval(record.samples) for name, metric in METRICS.items()},
        )
        for record in records
        if record.samples is not None
    )


def bits_groups(evaluation: Evaluation[BenchRecord]) -> tuple[BitsGroup, ...]:
    """Groups of the quantized cases: most bits first, within a nominal number of bits the largest group first."""
    by_bits = grouped(make_rows(evaluation.records), lambda row: row.record.bits)
    chosen = sorted((bits for bits in by_bits if bits is not None), reverse=True)
    return tuple(group for bits in chosen for group in _groups_of(bits, by_bits[bits]))


def unquantized_row(evaluation: Evaluation[BenchRecord]) -> Row | None:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One pair of methods; `nf` stands for `nf4`, `nf3` or `nf2`."""

    subject: str
    baseline: str
    subject_words: str
    baseline_words: str
    fairness: str

    @property
    def pair_words(self) -> str:
        """`LoRDS against GPTQ`."""
        return f"{self.subject_words} against {self.baseline_words.partition(',')[0]}"


NO_CALIBRATION = "neither uses calibration data"
SAME_CALIBRATION = "both use the same calibration data"
ONE_SIDED = "only the baseline uses calibration data"

SUBJECTS = {
    "lords": "LoRDS",
    "lords-gptq": "LoRDS with error feedback",
    "lords-learned": "LoRDS with learned levels",
    "lords-paper": "LoRDS by the paper's recipe",
}
QUESTIONS = tuple(
    Question(
        subject=subject, baseline=baseline, subject_words=SUBJECTS[subject], baseline_words=words, fairness=fairness
    )
    for subject, baseline, words, fairness in (
        ("lords", "nf", "NormalFloat blocks", NO_CALIBRATION),
        ("lords", "block-opt", "optimised blocks", NO_CALIBRATION),
        ("lords", "gptq", "GPTQ, which uses calibration data,", ONE_SIDED),
        ("lords-gptq", "gptq", "GPTQ", SAME_CALIBRATION),
        ("lords-gptq", "block-gptq", "the same recipe on blocks", SAME_CALIBRATION),
        ("lords-learned", "block-opt-learned", "optimised blocks with learned levels", NO_CALIBRATION),
        ("lords-paper", "nf", "NormalFloat blocks", NO_CALIBRATION),
    )
)  # fmt: skip
HEADLINE_QUESTIONS = QUESTIONS[:3]
CALIBRATED_QUESTIONS = QUESTIONS[3:5]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One cell of the verdict: a question at one number of bits.

    Attributes:
        outcome: by the primary metric, None where it was not compared.
        change: KL difference as a percentage of the baseline's KL.
        change_interval: its 95 % interval.
        note: why there is no comparison, or which other metric resolves the other way.
    """

    outcome: PairedVerdict | None
    change: str
    change_interval: str
    note: str

    @property
    def words(self) -> str:
        """`better`, `worse`, `not resolved` or `not compared`."""
        return "not compared" if self.outcome is None else self.outcome.value


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The lowest KL among cases of equal bits, the methods not resolved from it, and those not compared with it."""

    row: Row
    ties: tuple[str, ...]
    uncompared: tuple[str, ...]


def headline_groups(groups: tuple[BitsGroup, ...]) -> tuple[BitsGroup, ...]:
    """The group with most cases of each nominal number of bits: the columns of the verdict."""
    chosen: dict[int, BitsGroup] = {}
    for group in groups:
        if group.is_comparable:
            chosen.setdefault(group.bits, group)
    return tuple(chosen.values())


def answer(question: Question, group: BitsGroup) -> Answer:
    """The question's answer among the cases of one group."""
    comparison = group.compare(question.subject, question.baseline)
    if comparison is None:
        absent = [name for name in (question.subject, question.baseline) if group.row(name) is None]
        return Answer(outcome=None, change="", change_interval="", note=f"no {fmt.listing(absent)} at equal bits")
    if comparison.refusal is not None or PRIMARY not in comparison.differences:
        return Answer(outcome=None, change="", change_interval="", note=comparison.refusal or "no KL")
    change, change_interval = relative(comparison.differences[PRIMARY])
    return Answer(
        outcome=comparison.outcome(PRIMARY),
        change=change,
        change_interval=change_interval,
        note=_disagreement(comparison),
    )


def headline(groups: tuple[BitsGroup, ...]) -> tuple[str, ...]:
    """The verdict in one or two sentences."""
    columns = headline_groups(groups)
    first = _sentence("At equal measured bits", HEADLINE_QUESTIONS, columns)
    second = _sentence("With the same calibration data", CALIBRATED_QUESTIONS, columns)
    if not first and not second:
        return ("No verdict: no LoRDS case has a baseline at equal measured bits.",)
    return tuple(sentence for sentence in (first, second) if sentence)


def best_of(group: BitsGroup) -> Best:
    """The lowest KL of a group, with the methods whose paired difference from it is not resolved or not to be had."""
    row = group.rows[0]
    outcomes = {other.record.method: compare(other.record, row.record).outcome(PRIMARY) for other in group.rows[1:]}
    return Best(
        row=row,
        ties=tuple(method for method, outcome in outcomes.items() if outcome is PairedVerdict.UNRESOLVED),
        uncompared=tuple(method for method, outcome in outcomes.items() if outcome is None),
    )


def _sentence(opening: str, questions: tuple[Question, ...], columns: tuple[BitsGroup, ...]) -> str:
    clauses = [clause for question in questions if (clause := _clause(question, columns))]
    if not clauses:
        return ""
    return f"{opening}, {questions[0].subject_words} is {'; '.join(clauses)}."


def _clause(question: Question, columns: tuple[BitsGroup, ...]) -> str:
    """`better than X at 4 and 3 bits, not resolved at 2 bits`."""
    found: dict[PairedVerdict, list[str]] = {}
    for group in columns:
        reply = answer(question, group)
        if reply.outcome is not None:
            found.setdefault(reply.outcome, []).append(str(group.bits))
    parts: list[str] = []
    for outcome, joiner in (
        (PairedVerdict.BETTER, "than"),
        (PairedVerdict.WORSE, "than"),
        (PairedVerdict.UNRESOLVED, "against"),
    ):
        if outcome in found:
            name = f" {joiner} {question.baseline_words}" if not parts else ""
            parts.append(f"{outcome.value}{name} at {fmt.listing(found[outcome])} bits")
    return ", ".join(parts)


def _disagreement(comparison: Comparison) -> str:
    opposite = {PairedVerdict.BETTER: PairedVerdict.WORSE, PairedVerdict.WORSE: PairedVerdict.BETTER}
    primary = comparison.outcome(PRIMARY)
    if primary is None or primary not in opposite:
        return ""
    names = ("bits_per_byte", "choice")
    against = [METRICS[name].label.lower() for name in names if comparison.outcome(name) is opposite[primary]]
    return f"{fmt.listing(against)} says {opposite[primary].value}" if against else ""
