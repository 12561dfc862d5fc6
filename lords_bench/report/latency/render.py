"""A device report as Markdown for GitHub, as one self-contained HTML page, and as files on disk."""

from collections.abc import Iterable

from lords_bench.records.latency import LatencyRecord
from lords_bench.records.store import RejectedLine
from lords_bench.report.latency.page import latency_page
from lords_bench.report.latency.views import LatencyPage
from lords_bench.report.render import REBUILD_COMMAND, rendered
from lords_bench.report.svg import css_variables, standalone
from lords_bench.stats.verdict import MARGIN

# The Markdown page lists so many losses; the HTML page has them all.
MARKDOWN_LOSSES = 40


def latency_report(records: Iterable[LatencyRecord], rejected: Iterable[RejectedLine] = ()) -> dict[str, str]:
    """File name → text of the report: `latency.md`, its figures, and `latency.html`. Same records, same text.

    Raises:
        RecordError: there is no latency record.
    """
    page = latency_page(records, rejected)
    files = {"latency.md": markdown(page), "latency.html": html(page)}
    for section in page.sections:
        for figure in section.figures:
            files[f"latency-{figure.name}.svg"] = standalone(figure.svg)
    return files


def markdown(page: LatencyPage) -> str:
    """The page as GitHub Markdown; figures are files beside it."""
    return rendered("latency.md.j2", **_context(page), most_losses=MARKDOWN_LOSSES)


def html(page: LatencyPage) -> str:
    """The page as one HTML document that needs nothing else."""
    theme = {name: css_variables(name) for name in ("light", "dark")}
    return rendered("latency.html.j2", **_context(page), theme=theme)


def _context(page: LatencyPage) -> dict[str, object]:
    return {"page": page, "rebuild": REBUILD_COMMAND, "margin": f"{100 * MARGIN:g} %"}
