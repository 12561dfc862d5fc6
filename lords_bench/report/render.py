"""An accuracy page as Markdown for GitHub, as one self-contained HTML page, and as files on disk.

Both are jinja2 templates beside this file; they lay out what `page.accuracy_page` says and compute nothing. The HTML
page loads nothing: style and figures are in it, and it has no script.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lords_bench.files import write_whole
from lords_bench.markdown import code, escape
from lords_bench.records import BenchRecord, RejectedLine
from lords_bench.report.metrics import METRICS
from lords_bench.report.page import accuracy_page
from lords_bench.report.svg import css_variables, standalone
from lords_bench.report.views import AccuracyPage
from lords_bench.stats.bootstrap import RESAMPLES
from lords_bench.text import visible

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
    return rendered("accuracy.md.j2", **_context(page))


def html(page: AccuracyPage) -> str:
    """The page as one HTML document that needs nothing else."""
    theme = {"light": css_variables("light"), "dark": css_variables("dark")}
    return rendered("accuracy.html.j2", **_context(page), theme=theme)


def rendered(template: str, **context: object) -> str:
    """A page from the template of that name, `<suite>.md.j2` or `<suite>.html.j2`.

    Strict about unknown names; whatever an expression gives is escaped for the kind of page unless it is marked `safe`.
    """
    is_markdown = template.endswith(".md.j2")

    def finalize(value: object) -> object:
        if not is_markdown or hasattr(value, "__html__") or not isinstance(value, str):
            return value
        # jinja2 escapes for HTML what is no `Markup`, and knows nothing of Markdown.
        return Markup(escape(value))  # noqa: S704  (of a text that was escaped)

    environment = Environment(
        loader=PackageLoader("lords_bench.report", "templates"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = code
    return visible(environment.get_template(template).render(**context))


def _context(page: AccuracyPage) -> dict[str, object]:
    return {"page": page, "metrics": tuple(METRICS.values()), "resamples": RESAMPLES, "rebuild": REBUILD_COMMAND}
