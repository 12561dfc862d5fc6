"""Short pages of tables, in Markdown alone: what they share. Pure functions of records."""

from collections.abc import Iterable, Sequence

from lords_bench.records.environment import Environment
from lords_bench.records.store import RejectedLine
from lords_bench.reporting import format as fmt

MIB = 2**20
_DIGITS = 12


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; the first column is text, the others stand to the right."""
    lines = [f"| {' | '.join(columns)} |", f"|---|{'--:|' * (len(columns) - 1)}"]
    return [*lines, *(f"| {' | '.join(cell.replace('|', '∣') for cell in row)} |" for row in rows)]


def memory(value: int | None) -> str:
    """Bytes for people: `812 MiB`, `3.42 GiB`; a dash where it is not told."""
    if value is None:
        return fmt.UNKNOWN
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / MIB:.{0 if value >= 10 * MIB else 2}f} MiB"


def provenance(environment: Environment, *, command: str, dates: Sequence[str]) -> list[str]:
    """Device, versions, source, command and dates, as a list."""
    commit = "unknown (not a git checkout)"
    if environment.git_commit is not None:
        state = {True: "with uncommitted changes", False: "clean", None: "state unknown"}[environment.git_dirty]
        commit = f"{environment.git_commit[:_DIGITS]} ({state})"
    versions = ", ".join(
        f"{name} {getattr(environment, name) or 'absent'}" for name in ("lords_bench", "python", "torch", "triton")
    )
    days = sorted(dates)
    return [
        f"- Device: {environment.device_name}; {environment.platform}",
        f"- Versions: {versions}",
        f"- Commit: {commit}; source {environment.source_sha256[:_DIGITS]}",
        f"- Command: `{command}`",
        f"- Measured: {days[0]}" + ("" if days[0] == days[-1] else f" to {days[-1]}"),
    ]


def rejected_lines(rejected: Iterable[RejectedLine]) -> list[str]:
    """A sentence for each line of the record file that is not believed."""
    return [
        f"Line {item.line} of the record file is not used: {item.reason}."
        for item in sorted(rejected, key=lambda item: (item.line, item.reason))
    ]
