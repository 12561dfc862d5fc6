"""Short pages of tables, in Markdown alone: what they share. Pure functions of records."""

from collections.abc import Iterable, Sequence

from lords_bench.records.environment import Environment
from lords_bench.reporting import format as fmt
from lords_bench.reporting import origin

MIB = 2**20


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
    return [
        f"- Device: {origin.machine(environment)}; {environment.platform}",
        f"- Versions: {origin.versions(environment)}",
        f"- Commit: {origin.commit(environment)}; source {origin.short(environment.source_sha256)}",
        f"- Command: `{command}`",
        f"- Measured: {origin.date_span(dates)}",
    ]
