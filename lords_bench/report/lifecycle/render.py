"""A lifecycle page as Markdown for GitHub, as one self-contained HTML page, and as files on disk."""

from collections.abc import Iterable

from lords_bench.records import LifecycleRecord, RejectedLine
from lords_bench.report.lifecycle.page import lifecycle_page
from lords_bench.report.lifecycle.views import LifecyclePage
from lords_bench.report.render import REBUILD_COMMAND, rendered
from lords_bench.report.svg import css_variables, standalone


def lifecycle_report(records: Iterable[LifecycleRecord], rejected: Iterable[RejectedLine] = ()) -> dict[str, str]:
    """File name → text of the report: `lifecycle.md`, its figures, and `lifecycle.html`. Same records, same text.

    Raises:
        RecordError: there is no lifecycle record.
    """
    page = lifecycle_page(records, rejected)
    files = {"lifecycle.md": markdown(page), "lifecycle.html": html(page)}
    for section in page.sections:
        for figure in section.figures:
            files[f"lifecycle-{figure.name}.svg"] = standalone(figure.svg)
    return files


def markdown(page: LifecyclePage) -> str:
    """The page as GitHub Markdown; figures are files beside it."""
    return rendered("lifecycle.md.j2", page=page, rebuild=REBUILD_COMMAND)


def html(page: LifecyclePage) -> str:
    """The page as one HTML document that needs nothing else."""
    theme = {name: css_variables(name) for name in ("light", "dark")}
    return rendered("lifecycle.html.j2", page=page, rebuild=REBUILD_COMMAND, theme=theme)
