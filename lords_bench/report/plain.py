"""Short pages of tables, in Markdown alone: what they share. Pure functions of records."""

from collections.abc import Sequence

from lords_bench.markdown import code, line
from lords_bench.records.environment import Environment
from lords_bench.report import format as fmt
from lords_bench.report import origin

MIB = 2**20


def memory(value: int | None) -> str:
    """Bytes for people: `812 MiB`, `3.42 GiB`; a dash where it is not told."""
    if value is None:
        return fmt.UNKNOWN
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / MIB:.{0 if value >= 10 * MIB else 2}f} MiB"


def provenance(environment: Environment, *, command: str, dates: Sequence[str]) -> list[str]:
    """Device, versions, source, command and dates, as a list."""
    return [
        line("- Device: {}; {}", origin.machine(environment), environment.platform),
        line("- Versions: {}", origin.versions(environment)),
        line("- Commit: {}; source {}", origin.commit(environment), origin.short(environment.source_sha256)),
        line("- Command: {}", code(command)),
        line("- Measured: {}", origin.date_span(dates)),
    ]
