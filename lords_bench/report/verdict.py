"""The verdict in words: is LoRDS better than its baselines at equal measured bits?

Every question is answered by the paired difference in KL to the unquantized model. `better` and `worse` need an
interval that excludes 0; everything else is `not resolved`. Losses and gains are worded alike.
"""

from dataclasses import dataclass

from lords_bench.report.format import listing, relative
from lords_bench.report.metrics import METRICS, PRIMARY
from lords_bench.report.tables import BitsGroup, Comparison, Row, compare
from lords_bench.stats import Outcome


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

QUESTIONS = (
    Question(
        subject="lords",
        baseline="nf",
        subject_words="LoRDS",
        baseline_words="NormalFloat blocks",
        fairness=NO_CALIBRATION,
    ),
    Question(
        subject="lords",
        baseline="block-opt",
        subject_words="LoRDS",
        baseline_words="optimised blocks",
        fairness=NO_CALIBRATION,
    ),
    Question(
        subject="lords",
        baseline="gptq",
        subject_words="LoRDS",
        baseline_words="GPTQ, which uses calibration data,",
        fairness=ONE_SIDED,
    ),
    Question(
        subject="lords-gptq",
        baseline="gptq",
        subject_words="LoRDS with error feedback",
        baseline_words="GPTQ",
        fairness=SAME_CALIBRATION,
    ),
    Question(
        subject="lords-gptq",
        baseline="block-gptq",
        subject_words="LoRDS with error feedback",
        baseline_words="the same recipe on blocks",
        fairness=SAME_CALIBRATION,
    ),
    Question(
        subject="lords-learned",
        baseline="block-opt-learned",
        subject_words="LoRDS with learned levels",
        baseline_words="optimised blocks with learned levels",
        fairness=NO_CALIBRATION,
    ),
    Question(
        subject="lords-paper",
        baseline="nf",
        subject_words="LoRDS by the paper's recipe",
        baseline_words="NormalFloat blocks",
        fairness=NO_CALIBRATION,
    ),
)
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

    outcome: Outcome | None
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

    group: BitsGroup
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
        return Answer(outcome=None, change="", change_interval="", note=f"no {listing(absent)} at equal bits")
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
        group=group,
        row=row,
        ties=tuple(method for method, outcome in outcomes.items() if outcome is Outcome.UNRESOLVED),
        uncompared=tuple(method for method, outcome in outcomes.items() if outcome is None),
    )


def _sentence(opening: str, questions: tuple[Question, ...], columns: tuple[BitsGroup, ...]) -> str:
    clauses = [clause for question in questions if (clause := _clause(question, columns))]
    if not clauses:
        return ""
    return f"{opening}, {questions[0].subject_words} is {'; '.join(clauses)}."


def _clause(question: Question, columns: tuple[BitsGroup, ...]) -> str:
    """`better than X at 4 and 3 bits, not resolved at 2 bits`."""
    found: dict[Outcome, list[str]] = {}
    for group in columns:
        reply = answer(question, group)
        if reply.outcome is not None:
            found.setdefault(reply.outcome, []).append(str(group.bits))
    parts: list[str] = []
    for outcome, joiner in ((Outcome.BETTER, "than"), (Outcome.WORSE, "than"), (Outcome.UNRESOLVED, "against")):
        if outcome in found:
            name = f" {joiner} {question.baseline_words}" if not parts else ""
            parts.append(f"{outcome.value}{name} at {listing(found[outcome])} bits")
    return ", ".join(parts)


def _disagreement(comparison: Comparison) -> str:
    opposite = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER}
    primary = comparison.outcome(PRIMARY)
    if primary is None or primary not in opposite:
        return ""
    names = ("bits_per_byte", "choice")
    against = [METRICS[name].label.lower() for name in names if comparison.outcome(name) is opposite[primary]]
    return f"{listing(against)} says {opposite[primary].value}" if against else ""
