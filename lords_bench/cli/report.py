"""`lords-bench report`, and where reports lie.

<out>/records/<name>/<suite>.jsonl    records of one device, one file per suite
<out>/<name>/<suite>.md, .html, .svg  the pages made from them
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rich.table import Table

from lords_bench.cli.command import Parser
from lords_bench.cli.gate.static_layer import FOLDER as PINS
from lords_bench.cli.gate.static_layer import write_predictions
from lords_bench.cli.output import complain, say
from lords_bench.errors import RecordError, UsageError
from lords_bench.records import BenchRecord, Environment, read_nouns, read_records
from lords_bench.spec.options import option
from lords_bench.terminal import Console

# A log or pipe has no width; the table needs this much to keep each row on one line.
LOG_COLUMNS = 160
OUT = "folder of all reports"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportSettings:
    """Rebuilds every page of the folder from its records; the same records give the same bytes."""

    out: Path = option(OUT, metavar="DIR", default=Path("reports"))
    history: str | None = option(
        "write a metric over commits with its changes of level instead: kl (the default), bits_per_byte, "
        "weight_error or latency",
        metavar="METRIC",
        nargs="?",
        const="kl",
        default=None,
    )


def add_arguments(parser: Parser) -> None:
    """Add what the command takes."""
    parser.serve(report, ReportSettings)


def device_folder(environment: Environment) -> str:
    """Name of the folders of this device's results: the GPU's, or `cpu-` and the processor's."""
    if environment.device == "cuda" or environment.cpu_model is None:
        return environment.device_slug
    return "cpu-" + re.sub(r"[^a-z0-9]+", "-", environment.cpu_model.lower()).strip("-")


def results_name(asked: str | None, environment: Environment) -> str:
    """The name asked for, else the device's.

    Raises:
        UsageError: it is no name of a folder within another.
    """
    if asked is None:
        return device_folder(environment)
    if not re.fullmatch(r"\w[\w.-]*", asked):
        raise UsageError(f"--name {asked!r} cannot name a folder; use letters, digits, '-', '_' and '.'")
    return asked


def record_path(out: Path, name: str, suite: str = "accuracy") -> Path:
    """Record file of a device."""
    return out / "records" / name / f"{suite}.jsonl"


def rebuild(out: Path, name: str, suite: str = "accuracy") -> tuple[Path, ...]:
    """Writes a device's pages of one suite from its records; returns their paths.

    Raises:
        RecordError: there are no records.
        StoreError: the disk refuses.
    """
    from lords_bench.reporting.render import write_report

    return write_report(out / name, REPORTS[suite](record_path(out, name, suite)))


def report(settings: ReportSettings) -> int:
    """Rebuilds the pages of every device and suite in the folder, or the history of a metric."""
    out = settings.out
    if settings.history is not None:
        return history(out, settings.history)
    # A run that was stopped before its first case leaves an empty file.
    files = (path for suite in REPORTS for path in (out / "records").glob(f"*/{suite}.jsonl") if path.stat().st_size)
    found = sorted((path.parent.name, path.stem) for path in files)
    if not found:
        raise RecordError(f"no records below {str(out / 'records')!r}; run 'lords-bench bench' first")
    for name, suite in found:
        for path in rebuild(out, name, suite):
            say(path)
    if (out / PINS).exists():
        say(write_predictions(out))
    return 0


def history(out: Path, name: str) -> int:
    """Writes the history of a metric for every device in the folder.

    Raises:
        UsageError: an unknown metric.
        RecordError: no record has it.
    """
    from lords_bench.records.latency import LatencyRecord
    from lords_bench.reporting.history import history_report, named_history_metric
    from lords_bench.reporting.render import write_report

    suite = named_history_metric(name).suite
    noun: type[BenchRecord | LatencyRecord] = LatencyRecord if suite == "latency" else BenchRecord
    paths = sorted(path for path in (out / "records").glob(f"*/{suite}.jsonl") if path.stat().st_size)
    if not paths:
        raise RecordError(f"no {suite} records below {str(out / 'records')!r}; run 'lords-bench bench {suite}' first")
    for path in paths:
        found = read_nouns(path, noun)
        for line in found.rejected:
            complain(f"{path}, line {line.line}, is not used: {line.reason}")
        for written in write_report(out / path.parent.name, history_report(name, found.records)):
            say(written)
    return 0


def _accuracy_files(path: Path) -> dict[str, str]:
    from lords_bench.reporting.render import accuracy_report

    found = read_records(path)
    return accuracy_report(found.records, found.rejected)


def _latency_files(path: Path) -> dict[str, str]:
    from lords_bench.records.latency import LatencyRecord
    from lords_bench.reporting.latency.render import latency_report

    found = read_nouns(path, LatencyRecord)
    return latency_report(found.records, found.rejected)


def _lifecycle_files(path: Path) -> dict[str, str]:
    from lords_bench.records import LifecycleRecord
    from lords_bench.reporting.lifecycle.render import lifecycle_report

    found = read_nouns(path, LifecycleRecord)
    return lifecycle_report(found.records, found.rejected)


def _cost_files(path: Path) -> dict[str, str]:
    from lords_bench.records.cost import CostRecord
    from lords_bench.reporting.cost import cost_report

    found = read_nouns(path, CostRecord)
    return cost_report(found.records, found.rejected)


def _check_files(path: Path) -> dict[str, str]:
    from lords_bench.records.check import CheckRecord
    from lords_bench.reporting.checks import checks_report

    found = read_nouns(path, CheckRecord)
    return checks_report(found.records, found.rejected)


# A suite's record file to the text of its pages, by file name.
REPORTS: Mapping[str, Callable[[Path], dict[str, str]]] = MappingProxyType(
    {
        "accuracy": _accuracy_files,
        "latency": _latency_files,
        "lifecycle": _lifecycle_files,
        "cost": _cost_files,
        "checks": _check_files,
    }
)


def print_closing(records: Sequence[BenchRecord], paths: Sequence[Path]) -> None:
    """Table and verdict of these records, then the paths of the pages."""
    from lords_bench.reporting.page import accuracy_page
    from lords_bench.reporting.terminal import terminal_table

    section = accuracy_page(records, has_figures=False).sections[0]
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
        console.print(f"{record.case_id}: {record.status}: {record.reason}", style="yellow")
    if section.left_layers:
        console.print(f"Left unquantized, {section.left_share} of the weights: {', '.join(section.left_layers)}")
    for sentence in section.headline:
        console.print(sentence, highlight=False)
    for path in paths:
        if path.suffix in {".md", ".html"}:
            console.print(f"Report: {path}", highlight=False, soft_wrap=True)


def print_latency(path: Path, pages: Sequence[Path]) -> None:
    """Verdict of the newest device of a record file, then the paths of the pages."""
    from lords_bench.records.latency import LatencyRecord
    from lords_bench.reporting.latency.page import latency_page

    section = latency_page(read_nouns(path, LatencyRecord).records).sections[0]
    for line in (section.name, *section.notices, *section.headline, *section.verdict):
        say(line)
    for page in pages:
        if page.suffix in {".md", ".html"}:
            say(f"Report: {page}")
