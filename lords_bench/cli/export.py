"""`lords-bench export`: latency records as pytest-benchmark's JSON."""

import argparse
import json
from pathlib import Path

from lords_bench.cli.output import complain, say
from lords_bench.errors import StoreError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("records", type=Path, metavar="FILE", help="records of the latency suite (latency.jsonl)")
    parser.add_argument("out", type=Path, metavar="JSON", help="file to write")


def export(arguments: argparse.Namespace) -> int:
    """Writes the file and names it.

    Raises:
        RecordError: no such records, or none with samples.
        StoreError: the file cannot be written.
    """
    from lords_bench.records.latency import LatencyRecord
    from lords_bench.records.store import read_nouns
    from lords_bench.reporting.latency.export import benchmark_json

    found = read_nouns(arguments.records, LatencyRecord)
    for line in found.rejected:
        complain(f"{arguments.records}, line {line.line}, is not used: {line.reason}")
    text = json.dumps(benchmark_json(found.records), indent=1)
    try:
        arguments.out.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"cannot write {str(arguments.out)!r}: {why}; give another file") from None
    say(arguments.out)
    return 0
