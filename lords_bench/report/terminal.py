"""The closing table of a run in the terminal: plain cells, which the command line puts into a rich table."""

from dataclasses import dataclass

from lords_bench.report.format import UNKNOWN
from lords_bench.report.metrics import METRICS
from lords_bench.report.views import MethodRow, Section


@dataclass(frozen=True, kw_only=True, slots=True)
class TerminalTable:
    """Header, then blocks of rows; a line belongs between two blocks. Every row is as long as the header."""

    header: tuple[str, ...]
    blocks: tuple[tuple[tuple[str, ...], ...], ...]


def terminal_table(section: Section) -> TerminalTable:
    """Method × bits with every metric and its interval; the unquantized model first."""
    names = (f"{metric.label}{f' {metric.unit}' if metric.unit == '%' else ''}" for metric in METRICS.values())
    blocks: list[tuple[tuple[str, ...], ...]] = []
    if section.unquantized:
        blocks.append((_row(section.unquantized, UNKNOWN),))
    blocks += [tuple(_row(row, table.title.partition(" ")[0]) for row in table.rows) for table in section.results]
    return TerminalTable(header=("Bits", "Method", "Stored", *names), blocks=tuple(blocks))


def _row(row: MethodRow, bits: str) -> tuple[str, ...]:
    marks = f" ({', '.join(row.marks)})" if row.marks else ""
    values = (f"{cell.text} ({cell.interval})" if cell.interval else cell.text for cell in row.cells)
    return (bits, f"{row.method}{' *' if row.is_best else ''}{marks}", row.bits_per_weight, *values)
