"""Check records as a page: is every kernel right on this device, and do memory checkers find anything? Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence

from lords_bench.errors import RecordError
from lords_bench.records.check import TOOLS, CheckRecord, CheckTool
from lords_bench.records.status import Status
from lords_bench.records.store import RejectedLine
from lords_bench.report import provenance as origin
from lords_bench.report.document import (
    Article,
    Block,
    Bullets,
    Cell,
    Code,
    Column,
    Document,
    Paragraph,
    Row,
    Section,
    Table,
)
from lords_bench.report.select import grouped

_TITLES: dict[CheckTool, str] = {
    "float64": "Against float64",
    "memcheck": "compute-sanitizer memcheck",
    "racecheck": "compute-sanitizer racecheck",
}
CHECK_WORDS = (
    "Every element of every result, poisoned outputs, a second launch with equal bits. An error of 1 is the bound that "
    "follows from K, rank and dtype. Refused: the kernel says that it does not take the problem."
)


def checks_page(records: Iterable[CheckRecord], rejected: Iterable[RejectedLine] = ()) -> Document:
    """The page of all check records.

    Raises:
        RecordError: there is no check record.
    """
    found = tuple(records)
    if not found:
        raise RecordError("there is no check record to report; run 'lords-bench kernels --check' on a GPU")
    newest = max(found, key=lambda record: record.created_utc)
    kept, older = newest_checks(found, newest.run_key)
    by_tool = grouped(kept, lambda record: record.tool)
    notices = (f"{older} checks of other source or versions are in the record file and not shown.",) if older else ()
    dates = [record.created_utc for record in kept]
    opening: list[Block] = [Paragraph(text=verdict(kept), kind="lead")]
    if newest.not_counted:
        opening.append(Bullets(items=tuple(f"Not counted: {reason}" for reason in newest.not_counted)))
    sections = (
        Section(label="Verdict", blocks=tuple(opening)),
        *(Section(title=_TITLES[tool], blocks=_blocks(tool, by_tool.get(tool, []))) for tool in TOOLS),
        origin.section(origin.device_facts(newest.environment, command=newest.command, dates=dates)),
    )
    return Document(
        file="checks",
        suite="checks",
        kind="check report",
        part="device",
        title=_title(newest.emulated),
        notices=(*notices, *origin.rejected_notices(rejected)),
        articles=(Article(name=newest.environment.device_name, sections=sections),),
        guide={"Checks": CHECK_WORDS, **origin.remake(newest.command)},
    )


def _title(emulated: str | None) -> str:
    if emulated is None:
        return "Are the kernels right on this device?"
    return f"Are the kernels right, compiled for {emulated} and executed in an emulator, not run on a GPU?"


def newest_checks(records: Sequence[CheckRecord], run_key: str) -> tuple[tuple[CheckRecord, ...], int]:
    """The newest record of each check of that source and device, and how many are of another."""
    kept: dict[tuple[str, str, str], CheckRecord] = {}
    for record in sorted(records, key=lambda record: record.created_utc):
        if record.run_key == run_key:
            kept[record.tool, record.kernel, record.case] = record
    return tuple(kept.values()), sum(record.run_key != run_key for record in records)


def verdict(records: Sequence[CheckRecord]) -> str:
    """One sentence per tool."""
    sentences = []
    for tool in TOOLS:
        members = [record for record in records if record.tool == tool]
        counts = Counter(record.status for record in members)
        wrong = len(members) - counts[Status.OK] - counts[Status.UNSUPPORTED]
        name = _TITLES[tool]
        if not members:
            sentences.append(f"{name}: not run.")
        elif not counts[Status.OK] and not wrong:
            sentences.append(f"{name}: could not run here ({members[0].reason}).")
        else:
            done = f"{counts[Status.OK]} of {counts[Status.OK] + wrong} right"
            refused = f", {counts[Status.UNSUPPORTED]} refused" if counts[Status.UNSUPPORTED] else ""
            sentences.append(f"{name}: {done}{refused}.")
        if tool == "float64" and members:
            sentences.append(_reached(members))
    return " ".join(filter(None, sentences))


def _reached(records: Sequence[CheckRecord]) -> str:
    """What is missing of what was planned: a check that was cut short is not one that is done."""
    planned = max((record.planned or 0 for record in records), default=0)
    if not planned:
        return f"{len(records)} were made; how many were planned is not recorded."
    return f"{planned - len(records)} of {planned} planned were not reached." if len(records) < planned else ""


def _blocks(tool: CheckTool, records: Sequence[CheckRecord]) -> tuple[Block, ...]:
    if not records:
        return (Paragraph(text="Not run."),)
    fine = {Status.OK, Status.UNSUPPORTED} if tool == "float64" else {Status.OK}
    failed = [record for record in records if record.status not in fine]
    named = tuple((Code(record.kernel), f" {record.case}: {record.status}: {record.reason}") for record in failed)
    table = _kernels(records) if tool == "float64" else _results(records, label=_TITLES[tool])
    return (table, Bullets(items=named)) if failed else (table,)


def _results(records: Sequence[CheckRecord], *, label: str) -> Table:
    found = ["no finding" if record.status is Status.OK else str(record.status) for record in records]
    rows = [(Cell(text=Code(record.kernel)), record.case, text) for record, text in zip(records, found, strict=True)]
    columns = ("kernel", Column(name="case", style=""), Column(name="result", style=""))
    return Table(label=label, columns=columns, rows=tuple(rows))


def _kernels(records: Sequence[CheckRecord]) -> Table:
    rows = tuple(_kernel_row(members) for members in grouped(records, lambda record: record.kernel).values())
    columns = ("kernel", "right", "refused", "wrong", "worst error / bound")
    return Table(label=_TITLES["float64"], columns=columns, rows=rows)


def _kernel_row(members: Sequence[CheckRecord]) -> Row:
    counts = Counter(record.status for record in members)
    worst = max((record.worst for record in members if record.worst is not None), default=None)
    fine = counts[Status.OK], counts[Status.UNSUPPORTED]
    shown = "" if worst is None else f"{worst:.3f}"
    return (Cell(text=Code(members[0].kernel)), *map(str, (*fine, len(members) - sum(fine))), shown)
