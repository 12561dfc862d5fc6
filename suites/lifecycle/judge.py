"""Which lifecycle records stand together, what they are compared with, and the questions a page answers in words.

Of the records of a case the latest complete one is shown. A group (stage, method, bits) is judged at the learning rate
with the lowest loss on validation text; the run of the search at that rate is its first seed, runs of other seeds count
where they used that rate.

Every comparison is the difference in bits per byte of held-out test text, paired window by window and seed by seed,
with an interval over both (`stats.crossed`). `better` and `worse` need an interval that excludes 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log

from lords_bench.records import LifecycleRecord, LifecycleSamples, Status, TextScores
from lords_bench.records.lifecycle import Domain, Stage
from lords_bench.report import format as fmt
from lords_bench.report.select import Evaluation, evaluate, put_together
from lords_bench.stats import Interval, PairedDifference, PairedVerdict, crossed_difference, crossed_interval

# What a stage is meant to learn; the other domain is what it may forget.
TARGET: dict[Stage, Domain] = {"reference": "base", "qat": "base", "peft": "shifted"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunGroup:
    """One method at one number of bits.

    Attributes:
        start: the model before the first step, or None where it was not measured.
        searched: one run per learning rate, ascending.
        runs: the runs at the best rate, one per seed, by seed; empty where the search did not end, or not well.
    """

    stage: Stage
    method: str
    bits: int
    start: LifecycleRecord | None
    searched: tuple[LifecycleRecord, ...]
    runs: tuple[LifecycleRecord, ...]

    @property
    def group_id(self) -> str:
        return f"{self.stage}-{self.method}-b{self.bits}"

    @property
    def best_rate(self) -> float | None:
        return self.runs[0].learning_rate if self.runs else None

    @property
    def is_at_edge(self) -> bool:
        """Whether the best rate is the lowest or highest tried, so that a better one may lie outside."""
        rates = [record.learning_rate for record in self.searched]
        return len(rates) > 1 and self.best_rate in (rates[0], rates[-1])


@dataclass(frozen=True, kw_only=True, slots=True)
class LifecycleEvaluation(Evaluation[LifecycleRecord]):
    """An evaluation with its groups.

    Attributes:
        groups: by stage, bits (most first) and method.
        reference: the unquantized model, or None.
    """

    groups: tuple[RunGroup, ...]
    reference: LifecycleRecord | None

    def group(self, stage: Stage, method: str, bits: int) -> RunGroup | None:
        """The group, if it was measured."""
        wanted = (stage, method, bits)
        return next((group for group in self.groups if (group.stage, group.method, group.bits) == wanted), None)

    def bits_of(self, stage: Stage) -> tuple[int, ...]:
        """Numbers of bits that the stage was run at, most first."""
        return tuple(sorted({group.bits for group in self.groups if group.stage == stage}, reverse=True))


def select_lifecycle(records: Iterable[LifecycleRecord]) -> tuple[LifecycleEvaluation, ...]:
    """Group the records into evaluations, the one measured last first.

    Raises:
        RecordError: there is no record.
    """
    nothing = "no lifecycle record; run 'lords-bench bench lifecycle' first"
    return tuple(map(_evaluation, put_together(records, lambda record: record.comparison_key, nothing=nothing)))


def samples_of(record: LifecycleRecord) -> LifecycleSamples:
    """The samples of a record that is known to have them."""
    assert record.samples is not None
    return record.samples


def validation_of(record: LifecycleRecord) -> TextScores | None:
    """What the learning rate is chosen by."""
    return samples_of(record).of(TARGET[record.stage], "validation")


def _evaluation(members: list[LifecycleRecord]) -> LifecycleEvaluation:
    found = evaluate(members, _choose)
    keys = sorted({(r.stage, -(r.bits or 0), r.method) for r in found.records if r.stage != "reference"})
    return LifecycleEvaluation(
        records=found.records,
        failures=found.failures,
        missing=found.missing,
        superseded=found.superseded,
        groups=tuple(_group(stage, method, -bits, found) for stage, bits, method in keys),
        reference=next((record for record in found.records if record.stage == "reference"), None),
    )


def _choose(attempts: list[LifecycleRecord]) -> tuple[LifecycleRecord | None, LifecycleRecord | None]:
    """The latest complete record; the latest failure where there is none."""
    complete = [record for record in attempts if record.status is Status.OK and record.complete]
    return (complete[-1], None) if complete else (None, attempts[-1])


def _group(stage: Stage, method: str, bits: int, found: Evaluation[LifecycleRecord]) -> RunGroup:
    own = [r for r in found.records if (r.stage, r.method, r.bits) == (stage, method, bits)]
    searched = sorted((r for r in own if r.is_search), key=lambda r: r.learning_rate or 0.0)
    # Half a search is no search: the rates that were not tried may be the better ones.
    is_searched = not any(case_id.startswith(f"{stage}-{method}-b{bits}-lr") for case_id in found.missing)
    scored = [(scores.bits_per_byte, r) for r in searched if (scores := validation_of(r)) is not None]
    best = min(scored, key=lambda pair: (pair[0], pair[1].learning_rate))[1] if scored and is_searched else None
    repeats = [r for r in own if best and r.is_training and not r.is_search and r.learning_rate == best.learning_rate]
    runs = sorted([best, *repeats], key=lambda r: r.training_seed) if best else []
    return RunGroup(
        stage=stage,
        method=method,
        bits=bits,
        start=next((r for r in own if not r.is_training), None),
        searched=tuple(searched),
        runs=tuple(runs),
    )


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
YES_NO = {PairedVerdict.BETTER: "Yes", PairedVerdict.WORSE: "No, it is worse", PairedVerdict.UNRESOLVED: "Not resolved"}


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


def paper_answer(evaluation: LifecycleEvaluation, asked: PaperQuestion) -> tuple[PairedVerdict | None, str]:
    """PairedVerdict and sentences for a question of the paper, at its bits and then at the others that were run."""
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
    value = found.baseline + found.interval.estimate
    return (
        f"{fmt.number(value, 4)} against {fmt.number(found.baseline, 4)} bits per byte of held-out {domain} text, "
        f"{_change(found)}"
    )


def _change(found: PairedDifference) -> str:
    return f"{fmt.number(found.interval.estimate, 4, sign=True)} ({fmt.span(found.interval, 4, sign=True)})"


def _seeds(subject: RunGroup, baseline: RunGroup) -> str:
    count = len(_pairs(subject.runs, baseline.runs))
    return f"{count} {'seed' if count == 1 else 'seeds'}"


def _against_start(subject: RunGroup, baseline: RunGroup) -> list[str]:
    """Whether the difference was there before training."""
    if subject.start is None or baseline.start is None:
        return []
    found = difference([subject.start], [baseline.start], TARGET[subject.stage])
    return [] if found is None else [f"Before training the difference was {_change(found)}."]


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
        PairedVerdict.BETTER: f"{words(subject.method)} forgot less",
        PairedVerdict.WORSE: f"{words(subject.method)} forgot more",
        PairedVerdict.UNRESOLVED: "which of them forgot more is not resolved",
    }[found.outcome]
    return [f"On the base domain {verdict}: {_figures(found, 'base')}."]


def _elsewhere(evaluation: LifecycleEvaluation, asked: PaperQuestion) -> list[str]:
    parts: dict[PairedVerdict, list[str]] = {}
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
