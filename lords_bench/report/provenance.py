"""What every page says alike: where its records come from, which cases are missing, and how to make it anew."""

from collections.abc import Iterable, Mapping, Sequence

from lords_bench.records import BenchRecord, Environment, LifecycleRecord, RejectedLine
from lords_bench.report import format as fmt
from lords_bench.report.document import Block, Cell, Code, Column, Facts, Paragraph, Section, Table, Text

MIB, GIB = 2**20, 2**30
REBUILD_COMMAND = "nox -s report"
_SHOWN_DIGITS = 12
# Whatever can move a number.
_VERSIONS = ("lords_bench", "python", "torch", "transformers", "triton", "numpy")


def machine(environment: Environment, *, last: str | None = None) -> str:
    """Processor, cores, threads and memory in words; `last` ends the list in place of the GPU."""
    parts = [environment.device_name]
    if environment.device != "cpu":
        parts.append(f"host {environment.cpu_model or fmt.UNKNOWN}")
    if environment.cpu_cores is not None:
        parts.append(f"{environment.cpu_cores} CPU cores")
    if environment.torch_threads is not None:
        parts.append(f"{environment.torch_threads} torch threads")
    if environment.memory_bytes is not None:
        parts.append(f"{environment.memory_bytes / GIB:.0f} GiB memory")
    parts.append(f"GPU: {environment.gpu_name or 'none'}" if last is None else last)
    return ", ".join(parts)


def versions(environment: Environment, *, without: Iterable[str] = ()) -> str:
    """Every version that can move a number, less those `without` a part in it."""
    names = [name for name in _VERSIONS if name not in without]
    return ", ".join(f"{name} {getattr(environment, name) or 'absent'}" for name in names)


def commit(environment: Environment) -> str:
    """The commit, and whether the code differed from it."""
    if environment.git_commit is None:
        return "unknown (not a git checkout)"
    state = {True: "with uncommitted changes", False: "clean", None: "state unknown"}[environment.git_dirty]
    return f"{short(environment.git_commit)} ({state})"


def platform(environment: Environment) -> str:
    """The operating system, and the hash that tells one host from another."""
    return f"{environment.platform}, host {environment.hostname_sha256 or fmt.UNKNOWN}"


def date_span(dates_utc: Iterable[str]) -> str:
    """The first and the last date, or the only one.

    Raises:
        ValueError: there is no date.
    """
    first, last = min(found := list(dates_utc)), max(found)
    return first if first == last else f"{first} to {last}"


def short(digest: str) -> str:
    """As much of a hash as tells it apart for a reader."""
    return digest[:_SHOWN_DIGITS]


def each_once(values: Iterable[str]) -> str:
    """The different values in order of appearance, as one phrase."""
    return fmt.listing(list(dict.fromkeys(values)))


def weaknesses(environments: Sequence[Environment], *, what: str, runs: int, superseded: int) -> list[str]:
    """Notices of uncommitted code, of several runs put together, and of older records that are not shown.

    Args:
        environments: of every `what` that is shown.
        what: a word for what was measured, such as `case`.
        runs: from how many runs they come.
        superseded: how many older ones are not shown.
    """
    notices = []
    for state, words in (
        (True, "with uncommitted code: provisional, and never a baseline for another run"),
        (None, "outside a git checkout: the commit is not known"),
    ):
        if count := sum(environment.git_dirty is state for environment in environments):
            notices.append(f"{counted(count, len(environments), what)} measured {words}.")
    if runs > 1:
        notices.append(
            f"The {what}s come from {runs} runs with different source, versions or settings; the newest complete "
            f"record of each {what} is shown."
        )
    if superseded:
        plural = ("s are", "they were") if superseded > 1 else (" is", "it was")
        notices.append(f"{superseded} older {what}{plural[0]} not shown: {plural[1]} measured again.")
    return notices


def counted(count: int, total: int, what: str) -> str:
    """`All cases were`, `The only case was`, `2 of 9 cases were`."""
    if count == total:
        return f"All {what}s were" if count > 1 else f"The only {what} was"
    return f"{count} of {total} {what}s {'was' if count == 1 else 'were'}"


def rejected_notices(rejected: Iterable[RejectedLine]) -> tuple[str, ...]:
    """One sentence for each line of a record file that is not believed, in file order."""
    lines = sorted(rejected, key=lambda item: (item.line, item.reason))
    return tuple(f"Line {item.line} of the record file is not used: {item.reason}." for item in lines)


def memory(value: int | None) -> str:
    """Bytes for people: `812 MiB`, `3.42 GiB`; a dash where it is not told."""
    if value is None:
        return fmt.UNKNOWN
    return f"{value / GIB:.2f} GiB" if value >= GIB else f"{value / MIB:.{0 if value >= 10 * MIB else 2}f} MiB"


def device_facts(environment: Environment, *, command: str, dates: Iterable[str]) -> dict[str, Text]:
    """Device, versions, source, command and dates."""
    return {
        "Device": f"{machine(environment)}; {environment.platform}",
        "Versions": versions(environment),
        "Commit": f"{commit(environment)}; source {short(environment.source_sha256)}",
        "Command": Code(command),
        "Measured": date_span(dates),
    }


def kept_apart(count: int, what: str, each: str = "hold") -> tuple[str, ...]:
    """The notice of a page with several parts that have nothing to do with each other."""
    if count < 2:
        return ()
    return (f"The records {each} {count} {what}; each has a section of its own and nothing is compared across them.",)


def remake(command: str) -> dict[str, Text]:
    """How a page is made anew, from the same records and from others."""
    return {"Rebuild this page": Code(REBUILD_COMMAND), "Measure again": Code(command)}


def section(facts: Mapping[str, Text]) -> Section:
    """Where the numbers come from."""
    return Section(title="Where the numbers come from", label="Provenance", blocks=(Facts(items=facts),))


def left_out(failures: Sequence[BenchRecord | LifecycleRecord], missing: Sequence[str], *before: Block) -> Section:
    """Cases that ended badly or left no record, behind the given blocks."""
    rows = [(record.case_id, Cell(text=record.status.value, tone="warn"), record.reason or "") for record in failures]
    rows += [(case, Cell(text="no record", tone="warn"), "planned, but its run ended before it") for case in missing]
    columns = ("Case", Column(name="Status", style=""), Column(name="Reason", style=""))
    table = Table(label="Cases without a result", columns=columns, rows=tuple(rows))
    return Section(
        title="What was left out",
        blocks=(*before, table if rows else Paragraph(text="Every planned case has a result.")),
    )
