"""An accuracy page as Markdown for GitHub, as one self-contained HTML page, and as files on disk.

Both are jinja2 templates beside this file; they lay out what `page.accuracy_page` says and compute nothing. The HTML
page loads nothing: style and figures are in it, and it has no script.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from lords_bench.files import write_whole
from lords_bench.records import BenchRecord, RejectedLine
from lords_bench.reporting.metrics import METRICS
from lords_bench.reporting.page import accuracy_page
from lords_bench.reporting.style import css_variables
from lords_bench.reporting.svg import standalone
from lords_bench.reporting.views import AccuracyPage
from lords_bench.stats.bootstrap import RESAMPLES

REBUILD_COMMAND = "nox -s report"


def accuracy_report(records: Iterable[BenchRecord], rejected: Iterable[RejectedLine] = ()) -> dict[str, str]:
    """File name → text of the report: `accuracy.md`, its figures, and `accuracy.html`. Same records, same text.

    Raises:
        RecordError: there is no accuracy record.
    """
    page = accuracy_page(records, rejected)
    files = {"accuracy.md": markdown(page), "accuracy.html": html(page)}
    for section in page.sections:
        for figure in section.figures:
            files[f"accuracy-{figure.name}.svg"] = standalone(figure.svg)
    return files


def write_report(folder: Path, files: Mapping[str, str]) -> tuple[Path, ...]:
    """Write every file, each whole or not at all; returns their paths.

    Raises:
        StoreError: the folder or disk refuses.
    """
    for name, text in files.items():
        write_whole(folder / name, text, remedy="give another --out")
    return tuple(folder / name for name in files)


def markdown(page: AccuracyPage) -> str:
    """The page as GitHub Markdown; figures are files beside it."""
    return template_environment().get_template("accuracy.md.j2").render(**_context(page))


def html(page: AccuracyPage) -> str:
    """The page as one HTML document that needs nothing else."""
    theme = {"light": css_variables("light"), "dark": css_variables("dark")}
    return template_environment().get_template("accuracy.html.j2").render(**_context(page), theme=theme)


def escape_markdown(text: str) -> str:
    """Text whose characters mean nothing to Markdown, tables included, on one line."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}" if character not in "<>" else f"&{_ENTITIES[character]};")
    return " ".join(text.split())


_ENTITIES = {"<": "lt", ">": "gt"}


def template_environment() -> Environment:
    """Of every page: strict about unknown names, HTML escaped, Markdown escaped by the filter `md`."""
    environment = Environment(
        loader=PackageLoader("lords_bench.reporting", "templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = escape_markdown
    return environment


def _context(page: AccuracyPage) -> dict[str, object]:
    return {"page": page, "metrics": tuple(METRICS.values()), "resamples": RESAMPLES, "rebuild": REBUILD_COMMAND}
