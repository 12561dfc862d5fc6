"""Comparisons of training runs, and the questions a lifecycle page answers in words.

Every comparison is the difference in bits per byte of held-out test text, paired window by window and seed by seed,
with an interval over both (`stats.crossed`). `better` and `worse` need an interval that excludes 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from lords_bench.records import LifecycleRecord, TextScores
from lords_bench.records.lifecycle import Domain, Stage
from lords_bench.report import format as fmt
from lords_bench.report.lifecycle.select import TARGET, LifecycleEvaluation, RunGroup, samples_of
from lords_bench.stats import Interval, Outcome, PairedDifference, crossed_difference, crossed_interval

WORDS = {
    "lords": "LoRDS",
    "lords-equal-bits": "LoRDS of higher rank",
    "block": "NormalFloat blocks",
    "int": "integer blocks",
    "qlora": "QLoRA",
    "loftq": "LoftQ",
    "qpissa": "QPiSSA",
}
BASELINE = {"qat": "block", "peft": "qlora"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingQuestion:
    """Whether one method ends with fewer bits per byte of the stage's own domain than another."""

    stage: Stage
    subject: str
    baseline: str

    @property
    def words(self) -> str:
        """`After QAT: LoRDS against NormalFloat blocks`."""
        return f"After {stage_words(self.stage)}: {words(self.subject)} against {words(self.baseline)}"


QUESTIONS = (
    TrainingQuestion(stage="qat", subject="lords", baseline="block"),
    TrainingQuestion(stage="qat", subject="lords", baseline="int"),
    TrainingQuestion(stage="peft", subject="lords", baseline="qlora"),
    TrainingQuestion(stage="peft", subject="lords", baseline="loftq"),
    TrainingQuestion(stage="peft", subject="lords", baseline="qpissa"),
    TrainingQuestion(stage="peft", subject="lords-equal-bits", baseline="qlora"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperQuestion:
    """A claim of the paper as a question about this suite: asked at the bits the paper names."""

    question: TrainingQuestion
    bits: int
    words: str


PAPER_QUESTIONS = (
    PaperQuestion(
        question=QUESTIONS[0],
        bits=3,
        words="Is LoRDS more accurate than NormalFloat blocks at 3 bits, after training both with quantized weights?",
    ),
    PaperQuestion(
        question=QUESTIONS[2],
        bits=4,
        words="Does fine-tuning LoRDS's scales at 4 bits adapt better than QLoRA, with as many trained numbers?",
    ),
)
YES_NO = {Outcome.BETTER: "Yes", Outcome.WORSE: "No, it is worse", Outcome.UNRESOLVED: "Not resolved"}


def words(method: str) -> str:
    """A method's name for the reader."""
    return WORDS.get(method, method)


def stage_words(stage: str) -> str:
    """`QAT` or `fine-tuning`."""
    return {"qat": "QAT", "peft": "fine-tuning"}.get(stage, stage)


def bits_per_byte(runs: Sequence[LifecycleRecord], domain: Domain) -> Interval | None:
    """Bits per byte of test text, averaged over the runs, with its interval; None where it was not scored."""
    scores = [found for run in runs if (found := samples_of(run).of(domain, "test")) is not None]
    if not scores or len(scores) < len(runs):
        return None
    return crossed_interval([_bits(s) for s in scores], scores[0].window_bytes, clusters=scores[0].window_documents)


def difference(
    subject: Sequence[LifecycleRecord], baseline: Sequence[LifecycleRecord], domain: Domain
) -> PairedDifference | None:
    """Bits per byte of test text, subject − baseline, over the seeds that both have; None where there are none.

    Records without training have no seed: each of them stands for every seed of the other side.
    """
    pairs = _pairs(subject, baseline)
    first = [samples_of(a).of(domain, "test") for a, _ in pairs]
    second = [samples_of(b).of(domain, "test") for _, b in pairs]
    scores = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not scores or any(a.window_bytes != b.window_bytes for a, b in scores):
        return None
    return crossed_difference(
        [_bits(a) for a, _ in scores],
        [_bits(b) for _, b in scores],
        scores[0][0].window_bytes,
        clusters=scores[0][0].window_documents,
        lower_is_better=True,
    )


def answer(evaluation: LifecycleEvaluation, question: TrainingQuestion, bits: int) -> PairedDifference | None:
    """The question at one number of bits; None where one of the two was not run."""
    groups = _groups(evaluation, question, bits)
    return None if groups is None else difference(groups[0].runs, groups[1].runs, TARGET[groups[0].stage])


def paper_answer(evaluation: LifecycleEvaluation, asked: PaperQuestion) -> tuple[Outcome | None, str]:
    """Outcome and sentences for a question of the paper, at its bits and then at the others that were run."""
    groups = _groups(evaluation, asked.question, asked.bits)
    found = answer(evaluation, asked.question, asked.bits)
    if groups is None or found is None:
        return None, f"Not measured: the records hold no such pair at {asked.bits} bits."
    subject, baseline = groups
    domain = TARGET[subject.stage]
    sentences = [f"{YES_NO[found.outcome]}: {_figures(found, domain)}, {_seeds(subject, baseline)}."]
    sentences += _against_start(subject, baseline)
    if subject.stage == "peft":
        sentences += _storage(subject, baseline)
        sentences += _forgetting(subject, baseline)
    sentences += _elsewhere(evaluation, asked)
    return found.outcome, " ".join(sentences)


def _groups(evaluation: LifecycleEvaluation, question: TrainingQuestion, bits: int) -> tuple[RunGroup, RunGroup] | None:
    subject = evaluation.group(question.stage, question.subject, bits)
    baseline = evaluation.group(question.stage, question.baseline, bits)
    return (subject, baseline) if subject and baseline and subject.runs and baseline.runs else None


def _figures(found: PairedDifference, domain: Domain) -> str:
    low, high = found.interval.low, found.interval.high
    value = found.baseline + found.interval.estimate
    span = "no interval" if low is None or high is None else fmt.span(found.interval, 4, sign=True)
    return (
        f"{fmt.number(value, 4)} against {fmt.number(found.baseline, 4)} bits per byte of held-out {domain} text, "
        f"{fmt.number(found.interval.estimate, 4, sign=True)} ({span})"
    )


def _seeds(subject: RunGroup, baseline: RunGroup) -> str:
    count = len(_pairs(subject.runs, baseline.runs))
    return f"{count} {'seed' if count == 1 else 'seeds'}"


def _against_start(subject: RunGroup, baseline: RunGroup) -> list[str]:
    """Whether the difference was there before training."""
    if subject.start is None or baseline.start is None:
        return []
    found = difference([subject.start], [baseline.start], TARGET[subject.stage])
    if found is None:
        return []
    low, high = found.interval.low, found.interval.high
    span = "no interval" if low is None or high is None else fmt.span(found.interval, 4, sign=True)
    return [f"Before training the difference was {fmt.number(found.interval.estimate, 4, sign=True)} ({span})."]


def _storage(subject: RunGroup, baseline: RunGroup) -> list[str]:
    own, other = (samples_of(group.runs[0]) for group in (subject, baseline))
    trained = (
        f"Both train {own.trainable_numbers:,} numbers"
        if own.trainable_numbers == other.trainable_numbers
        else f"They train {own.trainable_numbers:,} and {other.trainable_numbers:,} numbers"
    )
    stored = f"{fmt.bits(own.bits_per_weight)} and {fmt.bits(other.bits_per_weight)} bits per weight"
    return [f"{trained} and store {stored}, adapters included."]


def _forgetting(subject: RunGroup, baseline: RunGroup) -> list[str]:
    found = difference(subject.runs, baseline.runs, "base")
    if found is None:
        return []
    verdict = {
        Outcome.BETTER: f"{words(subject.method)} forgot less",
        Outcome.WORSE: f"{words(subject.method)} forgot more",
        Outcome.UNRESOLVED: "which of them forgot more is not resolved",
    }[found.outcome]
    return [f"On the base domain {verdict}: {_figures(found, 'base')}."]


def _elsewhere(evaluation: LifecycleEvaluation, asked: PaperQuestion) -> list[str]:
    parts: dict[Outcome, list[str]] = {}
    for bits in evaluation.bits_of(asked.question.stage):
        found = answer(evaluation, asked.question, bits) if bits != asked.bits else None
        if found is not None:
            change = fmt.number(found.interval.estimate, 4, sign=True)
            parts.setdefault(found.outcome, []).append(f"{bits} bits ({change})")
    listed = [f"{outcome.value} at {fmt.listing(found)}" for outcome, found in parts.items()]
    return [f"At other bits: {'; '.join(listed)}."] if listed else []


def _pairs(
    subject: Sequence[LifecycleRecord], baseline: Sequence[LifecycleRecord]
) -> list[tuple[LifecycleRecord, LifecycleRecord]]:
    if len(baseline) == 1 and not baseline[0].is_training:
        return [(run, baseline[0]) for run in subject]
    by_seed = {run.training_seed: run for run in baseline}
    return [(run, by_seed[run.training_seed]) for run in subject if run.training_seed in by_seed]


def _bits(scores: TextScores) -> list[float]:
    return [nll / log(2) for nll in scores.window_nll_nats]
