"""`lords-bench report` and `lords-bench env`, and where reports lie.

<out>/records/<name>/accuracy.jsonl    records of one device
<out>/<name>/accuracy.md, .html, .svg  the pages made from them
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lords_bench.cli.models import choose_device
from lords_bench.cli.output import say
from lords_bench.errors import RecordError
from lords_bench.records import BenchRecord, read_records
from lords_bench.records.codec import to_plain
from lords_bench.timing.probe import probe_environment

RECORD_FILE = "accuracy.jsonl"
# A log or pipe has no width; the table needs this much to keep each row on one line.
LOG_COLUMNS = 160


def record_path(out: Path, name: str) -> Path:
    """Record file of a device."""
    return out / "records" / name / RECORD_FILE


def rebuild(out: Path, name: str) -> tuple[Path, ...]:
    """Writes a device's pages from its records; returns their paths.

    Raises:
        RecordError: there are no records.
        StoreError: the disk refuses.
    """
    from lords_bench.reporting.render import accuracy_report, write_report

    found = read_records(record_path(out, name))
    return write_report(out / name, accuracy_report(found.records, found.rejected))


def report(arguments: argparse.Namespace) -> int:
    """Rebuilds the pages of every device in the folder."""
    out = Path(arguments.out)
    # A run that was stopped before its first case leaves an empty file.
    files = (path for path in (out / "records").glob(f"*/{RECORD_FILE}") if path.stat().st_size)
    names = sorted(path.parent.name for path in files)
    if not names:
        raise RecordError(f"no records below {str(out / 'records')!r}; run 'lords-bench bench' first")
    for name in names:
        for path in rebuild(out, name):
            say(path)
    return 0


def environment(arguments: argparse.Namespace) -> int:
    """Prints this machine's environment as JSON, as records hold it."""
    del arguments
    say(json.dumps(to_plain(probe_environment(choose_device(None))), indent=1))
    return 0


def print_closing(records: Sequence[BenchRecord], paths: Sequence[Path]) -> None:
    """Table and verdict of these records, then the paths of the pages."""
    from lords_bench.reporting.page import accuracy_page
    from lords_bench.reporting.terminal import terminal_table

    section = accuracy_page(records).sections[0]
    content = terminal_table(section)
    table = Table(title=section.name)
    for heading in content.header:
        table.add_column(heading, overflow="fold")
    for block in content.blocks:
        for row in block:
            table.add_row(*row)
        table.add_section()
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_COLUMNS)
    console.print(table)
    for record in section.failures:
        console.print(f"{record.case_id}: {record.status}: {record.reason}", style="yellow", markup=False)
    if section.left_layers:
        console.print(f"Left unquantized, {section.left_share} of the weights: {', '.join(section.left_layers)}")
    for sentence in section.headline:
        console.print(sentence, markup=False, highlight=False)
    for path in paths:
        if path.suffix in {".md", ".html"}:
            console.print(f"Report: {path}", markup=False, highlight=False, soft_wrap=True)
