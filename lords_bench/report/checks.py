"""Check records as a page: is every kernel right on this device, and do memory checkers find anything? Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence

from lords_bench.errors import RecordError
from lords_bench.markdown import code, escape, line, table
from lords_bench.records.check import TOOLS, CheckRecord, CheckTool
from lords_bench.records.status import Status
from lords_bench.records.store import RejectedLine
from lords_bench.report.origin import rejected_notices
from lords_bench.report.plain import provenance

_TITLES: dict[CheckTool, str] = {
    "float64": "Against float64",
    "memcheck": "compute-sanitizer memcheck",
    "racecheck": "compute-sanitizer racecheck",
}
CHECK_WORDS = (
    "Every element of every result, poisoned outputs, a second launch with equal bits. An error of 1 is the bound that "
    "follows from K, rank and dtype. Refused: the kernel says that it does not take the problem."
)
# A case that stands for all: what it says holds for the tool.
WHOLE_TOOL = "any"


def checks_report(records: Iterable[CheckRecord], rejected: Iterable[RejectedLine] = ()) -> dict[str, str]:
    """File name → text of the report: `checks.md`. Same records, same text.

    Raises:
        RecordError: there is no check record.
    """
    found = tuple(records)
    if not found:
        raise RecordError("there is no check record to report; run 'lords-bench kernels --check' on a GPU")
    newest = max(found, key=lambda record: record.created_utc)
    kept, older = newest_checks(found, newest.run_key)
    lines = [_heading(newest.emulated), "", line("**{}**", verdict(kept)), ""]
    lines += provenance(newest.environment, command=newest.command, dates=[record.created_utc for record in kept])
    lines += [line("- Not counted: {}", reason) for reason in newest.not_counted]
    if older:
        lines.append(f"- {older} checks of other source or versions are in the record file and not shown.")
    for tool in TOOLS:
        members = [record for record in kept if record.tool == tool]
        lines += ["", f"## {_TITLES[tool]}", "", *(_float64(members) if tool == "float64" else _checker(members))]
    lines += ["", *map(escape, rejected_notices(rejected))]
    return {"checks.md": "\n".join(lines).rstrip() + "\n"}


def _heading(emulated: str | None) -> str:
    if emulated is None:
        return "# Are the kernels right on this device?"
    return line("# Are the kernels right, compiled for {} and executed in an emulator, not run on a GPU?", emulated)


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
    return " ".join(sentences)


def _float64(records: Sequence[CheckRecord]) -> list[str]:
    if not records:
        return ["Not run."]
    kernels = dict.fromkeys(record.kernel for record in records)
    rows = []
    for kernel in kernels:
        members = [record for record in records if record.kernel == kernel]
        counts = Counter(record.status for record in members)
        worst = max((record.worst for record in members if record.worst is not None), default=None)
        fine = counts[Status.OK], counts[Status.UNSUPPORTED]
        shown = "" if worst is None else f"{worst:.3f}"
        rows.append((code(kernel), *map(str, (*fine, len(members) - sum(fine))), shown))
    text = [
        CHECK_WORDS,
        "",
        *table(("kernel", "right", "refused", "wrong", "worst error / bound"), rows),
    ]
    return [*text, *_failures(records)]


def _checker(records: Sequence[CheckRecord]) -> list[str]:
    if not records:
        return ["Not run."]
    rows = [
        (code(record.kernel), record.case, "no finding" if record.status is Status.OK else f"{record.status}")
        for record in records
    ]
    return [*table(("kernel", "case", "result"), rows), *_failures(records, unsupported=True)]


def _failures(records: Sequence[CheckRecord], *, unsupported: bool = False) -> list[str]:
    fine = (Status.OK,) if unsupported else (Status.OK, Status.UNSUPPORTED)
    found = [record for record in records if record.status not in fine]
    return ["", *(line("- {} {}: {}: {}", code(r.kernel), r.case, r.status, r.reason) for r in found)] if found else []
