"""`lords-bench export`: records for other tools, as a table or as pytest-benchmark's JSON."""

import json
from dataclasses import dataclass
from pathlib import Path

from lords_bench.cli.command import Parser
from lords_bench.cli.output import complain, say
from lords_bench.errors import UsageError
from lords_bench.files import write_whole
from lords_bench.options import argument


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportSettings:
    """Writes the records of a file as a table with one row each.

    Or, of latency records, those of the newest device as JSON that 'pytest-benchmark compare' reads.
    """

    records: Path = argument("records of any suite (a .jsonl file)", metavar="FILE")
    out: Path = argument(
        "file to write: .csv is a table with one row per record (needs pandas); .json is pytest-benchmark's JSON "
        "of latency records"
    )


def add_arguments(parser: Parser) -> None:
    parser.serve(export, ExportSettings)


def export(settings: ExportSettings) -> int:
    """Writes the file and names it.

    Raises:
        UsageError: the name of the file to write ends in neither .csv nor .json.
        RecordError: no such records, or none with samples.
        StoreError: the file cannot be written.
    """
    from lords_bench.records.latency import LatencyRecord
    from lords_bench.records.store import read_any, read_nouns
    from lords_bench.suites.frame import csv_text
    from lords_bench.suites.latency.export import benchmark_json

    out = settings.out
    if out.suffix == ".csv":
        found = read_any(settings.records)
        text = csv_text(found)
    elif out.suffix == ".json":
        found = read_nouns(settings.records, LatencyRecord)
        text = f"{json.dumps(benchmark_json(found.records), indent=1)}\n"
    else:
        raise UsageError(f"cannot export to {str(out)!r}; give a name that ends in .csv or .json")
    for line in found.rejected:
        complain(f"{settings.records}, line {line.line}, is not used: {line.reason}")
    write_whole(out, text, remedy="give another file")
    say(out)
    return 0
