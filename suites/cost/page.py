"""Cost records as a page: time and memory of quantizing a model's layers, and of a step of fine-tuning. Pure."""

from collections.abc import Iterable, Sequence
from statistics import median

from lords_bench.errors import RecordError
from lords_bench.records.cost import COST_SUITES, CostRecord, CostSuite
from lords_bench.records.measurement import Measurement
from lords_bench.records.status import Status
from lords_bench.records.store import RejectedLine
from lords_bench.report import format as fmt
from lords_bench.report import provenance as origin
from lords_bench.report.document import Article, Block, Bullets, Cell, Code, Document, Paragraph, Row, Section, Table
from lords_bench.report.select import grouped
from lords_bench.stats.verdict import Judgement, Verdict, judge_measurements

# Goal of issue and README: all 224 linear layers of Llama-3-8B, on one data-centre GPU.
PTQ_GOAL_S = 180.0
# Fine-tuning: a step of LoRDS at most so many times as long as QLoRA's.
STEP_GOAL = 1.3
STEP_SUBJECT = "lords"
STEP_BASELINE = "qlora-peft"
TIME_WORDS = (
    "The wall clock of quantizing one weight that lies on the device, the device idle before and after. Peak memory is "
    "what was held beyond the weight itself."
)
ERROR_WORDS = "Squared error relative to the weight's, of synthetic weights: it ranks nothing."
_TITLES: dict[CostSuite, str] = {"ptq": "Quantizing a whole model", "step": "A step of fine-tuning"}


def cost_page(records: Iterable[CostRecord], rejected: Iterable[RejectedLine] = ()) -> Document:
    """The page of all cost records.

    Raises:
        RecordError: there is no cost record.
    """
    # A line that is there twice is one record, and no older one.
    by_suite = grouped(dict.fromkeys(records), lambda record: record.suite)
    if not by_suite:
        raise RecordError("there is no cost record to report; run 'lords-bench bench ptq' or 'bench step'")
    articles = [_article(suite, by_suite[suite]) for suite in COST_SUITES if suite in by_suite]
    newest = max((record for members in by_suite.values() for record in members), key=lambda record: record.created_utc)
    return Document(
        file="cost",
        suite="cost",
        kind="cost report",
        part="suite",
        title="What quantizing and fine-tuning cost",
        notices=origin.rejected_notices(rejected),
        articles=tuple(articles),
        guide={"Times": TIME_WORDS, "Errors": ERROR_WORDS, **origin.remake(newest.run.command)},
    )


def _article(suite: CostSuite, members: Sequence[CostRecord]) -> Article:
    newest = max(members, key=lambda record: record.created_utc)
    shown = _newest_cases([record for record in members if record.run_key == newest.run_key])
    # Samples are paired within one run only.
    if suite == "step":
        shown = [record for record in shown if record.run.run_id == newest.run.run_id]
    run = newest.run
    settings = "; ".join(f"{name}: {value}" for name, value in run.settings)
    facts = {
        "Settings": f"{settings}; seed {run.seed}",
        **origin.device_facts(run.environment, command=run.command, dates=[record.created_utc for record in shown]),
    }
    scale = "" if run.scale == 1 else f", every width divided by {run.scale}"
    blocks = _ptq(shown) if suite == "ptq" else _step(shown)
    failed = [record for record in shown if record.status is not Status.OK]
    names = [record.case if suite == "ptq" else Code(record.method) for record in failed]
    if failed:
        listed = zip(names, failed, strict=True)
        blocks.append(Bullets(items=tuple((name, f": {record.status}: {record.reason}") for name, record in listed)))
    if older := len(members) - len(shown):
        blocks.append(Paragraph(text=f"{older} older records of the file are not shown.", kind="notice"))
    return Article(
        name=f"{_TITLES[suite]}: {run.model}{scale}",
        sections=(Section(label="Results", blocks=tuple(blocks)), origin.section(facts)),
    )


def _newest_cases(records: Sequence[CostRecord]) -> list[CostRecord]:
    kept: dict[str, CostRecord] = {}
    for record in sorted(records, key=lambda record: record.created_utc):
        kept.pop(record.case, None)
        kept[record.case] = record
    return list(kept.values())


def _ptq(records: Sequence[CostRecord]) -> list[Block]:
    blocks: list[Block] = []
    by_method = grouped(records, lambda record: record.method)
    for method, members in by_method.items():
        planned = records[0].run.planned // max(1, len(by_method))
        blocks.append(Paragraph(text=ptq_verdict(method, members, planned=planned), kind="lead"))
        ok = [record for record in members if record.status is Status.OK]
        rows = tuple(_shape_row(same) for same in grouped(ok, lambda record: record.shape).values())
        columns = ("layer", "number", "rank", "median", "longest", "together", "peak memory", "error", "bits")
        if rows:
            blocks.append(Table(label=method, columns=columns, rows=rows))
    return blocks


def _shape_row(same: Sequence[CostRecord]) -> Row:
    shape, times = same[0].shape, [record.seconds for record in same if record.seconds is not None]
    assert shape is not None
    return (
        f"{shape[0]} × {shape[1]}",
        str(len(same)),
        _shown(same[0], "rank"),
        f"{1e3 * median(times):.0f} ms",
        f"{1e3 * max(times):.0f} ms",
        fmt.seconds(sum(times)),
        origin.memory(max((record.peak_bytes for record in same if record.peak_bytes is not None), default=None)),
        f"{median(_number(record, 'relative_squared_error') for record in same):.5f}",
        f"{median(_number(record, 'bits_per_weight') for record in same):.3f}",
    )


def ptq_verdict(method: str, records: Sequence[CostRecord], *, planned: int) -> str:
    """Total time and peak, in words; the goal is spoken of only where the whole model was quantized at full size."""
    ok = [record for record in records if record.status is Status.OK]
    total = sum(record.seconds for record in ok if record.seconds is not None)
    peak = max((record.peak_bytes for record in ok if record.peak_bytes is not None), default=None)
    part = "" if len(ok) == planned else f" (of {planned} planned; the others were not reached or failed)"
    said = f"{method}: {len(ok)} layers{part} in {fmt.seconds(total)}, at most {origin.memory(peak)} beside a weight."
    if len(ok) == planned and _is_whole(records[0]) and method == STEP_SUBJECT:
        goal = fmt.seconds(PTQ_GOAL_S)
        said += f" Within the goal of {goal}." if total <= PTQ_GOAL_S else f" The goal of {goal} is missed."
    return said


def _step(records: Sequence[CostRecord]) -> list[Block]:
    by_method = {record.method: record for record in records}
    judged = step_judgement(by_method)
    blocks: list[Block] = [Paragraph(text=step_verdict(by_method, judged), kind="lead")]
    rows = tuple(_step_row(record, record.measurement) for record in records if record.measurement is not None)
    columns = ("method", "median", "quartiles", "steps", "held", "more in a step", "together", "trained values")
    if rows:
        blocks.append(Table(label="Steps", columns=columns, rows=rows))
    floor = next((record.noise_floor for record in records if record.noise_floor is not None), None)
    return [*blocks, Paragraph(text=f"Noise floor: {'not measured' if floor is None else f'{100 * floor:.2f} %'}.")]


def _step_row(record: CostRecord, measured: Measurement) -> Row:
    return (
        Cell(text=Code(record.method)),
        f"{measured.median_ns / 1e6:.1f} ms",
        f"{measured.q1_ns / 1e6:.1f} … {measured.q3_ns / 1e6:.1f}",
        str(measured.n),
        origin.memory(record.held_bytes),
        origin.memory(record.peak_bytes),
        origin.memory(_together(record)),
        f"{_number(record, 'trained_values'):,.0f}",
    )


def step_judgement(by_method: dict[str, CostRecord]) -> Judgement | None:
    """LoRDS against QLoRA; None where one of them has no samples or there is no noise floor."""
    subject, base = by_method.get(STEP_SUBJECT), by_method.get(STEP_BASELINE)
    if subject is None or base is None or subject.measurement is None or base.measurement is None:
        return None
    if base.noise_floor is None:
        return None
    return judge_measurements(subject.measurement, base.measurement, noise_floor=base.noise_floor)


_WORDS = {
    Verdict.FASTER: "is faster than",
    Verdict.SLOWER: "is slower than",
    Verdict.SAME: "takes as long as",
    Verdict.AMBIGUOUS: "is not resolved from",
    Verdict.INVALID: "cannot be compared with",
}


def step_verdict(by_method: dict[str, CostRecord], judged: Judgement | None) -> str:
    """Time against the baseline and the goal, and which holds more memory, in words."""
    if judged is None or judged.ratio is None:
        return f"No verdict: {STEP_SUBJECT} and {STEP_BASELINE} have no samples taken together."
    ratio = judged.ratio
    said = f"A step of LoRDS {_WORDS[judged.verdict]} QLoRA's: {ratio.estimate:.2f} times as long"
    said += f" ({fmt.span(ratio, 2)})"
    if not _is_whole(by_method[STEP_SUBJECT]):
        return f"{said}. Not the model's own size on a GPU: this says nothing about the goal."
    kept = ratio.high is not None and ratio.high <= STEP_GOAL
    missed = ratio.low is not None and ratio.low > STEP_GOAL
    goal = "kept" if kept else "missed" if missed else "not resolved"
    said += f"; the goal of at most {STEP_GOAL:g} times is {goal}."
    sizes = [_together(by_method[method]) for method in (STEP_SUBJECT, STEP_BASELINE)]
    if sizes[0] is None or sizes[1] is None:
        return f"{said} Peak memory was not told."
    word = "less" if sizes[0] < sizes[1] else "more" if sizes[0] > sizes[1] else "as much"
    return f"{said} Its peak memory is {word}: {origin.memory(sizes[0])} against {origin.memory(sizes[1])}."


def _together(record: CostRecord) -> int | None:
    return None if record.held_bytes is None or record.peak_bytes is None else record.held_bytes + record.peak_bytes


def _is_whole(record: CostRecord) -> bool:
    """Whether it is of the model's own size, on a GPU."""
    blocks = dict(record.run.settings).get("blocks")
    return record.run.scale == 1 and blocks is None and record.run.environment.device == "cuda"


def _number(record: CostRecord, name: str) -> float:
    value = dict(record.facts).get(name)
    return float("nan") if value is None else float(value)


def _shown(record: CostRecord, name: str) -> str:
    value = dict(record.facts).get(name)
    return fmt.UNKNOWN if value is None else str(value)
