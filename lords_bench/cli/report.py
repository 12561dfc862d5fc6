"""`lords-bench report`, and where reports lie.

<out>/records/<name>/<suite>.jsonl    records of one device, one file per suite
<out>/<name>/<suite>.md, .html, .svg  the pages made from them
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from lords_bench.cli.command import Parser
from lords_bench.cli.gate.static_layer import FOLDER as PINS
from lords_bench.cli.gate.static_layer import write_predictions
from lords_bench.cli.output import complain, say
from lords_bench.errors import RecordError, UsageError
from lords_bench.options import option
from lords_bench.records import BenchRecord, Environment, read_nouns
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
    from lords_bench.report.render import page_files, write_report
    from lords_bench.suites.pages import PAGES

    noun, page = PAGES[suite]
    found = read_nouns(record_path(out, name, suite), noun)
    return write_report(out / name, page_files(page(found.records, found.rejected)))


def report(settings: ReportSettings) -> int:
    """Rebuilds the pages of every device and suite in the folder, or the history of a metric."""
    from lords_bench.suites.pages import PAGES

    out = settings.out
    if settings.history is not None:
        return history(out, settings.history)
    # A run that was stopped before its first case leaves an empty file.
    files = (path for suite in PAGES for path in (out / "records").glob(f"*/{suite}.jsonl") if path.stat().st_size)
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
    from lords_bench.report.history import history_page, named_history_metric
    from lords_bench.report.render import page_files, write_report

    suite = named_history_metric(name).suite
    noun: type[BenchRecord | LatencyRecord] = LatencyRecord if suite == "latency" else BenchRecord
    paths = sorted(path for path in (out / "records").glob(f"*/{suite}.jsonl") if path.stat().st_size)
    if not paths:
        raise RecordError(f"no {suite} records below {str(out / 'records')!r}; run 'lords-bench bench {suite}' first")
    for path in paths:
        found = read_nouns(path, noun)
        for line in found.rejected:
            complain(f"{path}, line {line.line}, is not used: {line.reason}")
        for written in write_report(out / path.parent.name, page_files(history_page(name, found.records))):
            say(written)
    return 0


def print_closing(records: Sequence[BenchRecord], paths: Sequence[Path]) -> None:
    """Table and verdict of these records, then the paths of the pages."""
    from lords_bench.report.format import UNKNOWN
    from lords_bench.report.render import terminal_rows
    from lords_bench.suites.accuracy.judge import bits_groups, headline, select_evaluations
    from lords_bench.suites.accuracy.page import SUITE, evaluation_name, left_share, result_table

    evaluation = select_evaluations(records, suite=SUITE)[0]
    groups = bits_groups(evaluation)
    content = result_table(evaluation, groups)
    table = Table(title=evaluation_name(evaluation))
    metrics = (f"{column.name} {column.unit}".rstrip() for column in content.columns_in("html")[2:])
    for heading in ("Bits", "Method", "Stored", *metrics):
        table.add_column(heading, overflow="fold")
    for group, rows in terminal_rows(content):
        for row in rows:
            table.add_row(group.title.partition(" ")[0] or UNKNOWN, *row)
        table.add_section()
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_COLUMNS)
    console.print(table)
    for record in evaluation.failures:
        console.print(f"{record.case_id}: {record.status}: {record.reason}", style="yellow")
    share, layers = left_share(evaluation)
    if layers:
        console.print(f"Left unquantized, {share} of the weights: {', '.join(layers)}")
    for sentence in headline(groups):
        console.print(sentence, highlight=False)
    for path in paths:
        if path.suffix in {".md", ".html"}:
            console.print(f"Report: {path}", highlight=False, soft_wrap=True)


def print_latency(path: Path, pages: Sequence[Path]) -> None:
    """Verdict of the newest device of a record file, then the paths of the pages."""
    from lords_bench.records.latency import LatencyRecord
    from lords_bench.report.document import Bullets, Paragraph
    from lords_bench.suites.latency.page import latency_page

    article = latency_page(read_nouns(path, LatencyRecord).records).articles[0]
    say(article.name)
    for block in article.sections[0].blocks:
        for text in block.items if isinstance(block, Bullets) else [block.text] if isinstance(block, Paragraph) else []:
            say(text)
    for page in pages:
        if page.suffix in {".md", ".html"}:
            say(f"Report: {page}")
