"""Results of the gate as Markdown for a pull request: the answer first, then only what moved, with links to records."""

from collections.abc import Sequence

from lords_bench.gate.finding import (
    INVALID,
    OK,
    REGRESSED,
    WITHOUT_BASELINE,
    Finding,
    LayerResult,
    Level,
    exit_code,
)
from lords_bench.markdown import escape, line, link, row

# GitHub refuses comments above 65 536 characters; what is cut is counted, and whole in the JUnit file.
MOST_ROWS = 40
_ANSWER = {
    OK: "✅ **Nothing is worse.**",
    REGRESSED: "❌ **This change makes something worse.**",
    INVALID: "⚠️ **The gate cannot judge this change.**",
    WITHOUT_BASELINE: "⚠️ **There is nothing to judge this change by.**",
}
_COUNTED = (
    (Level.REGRESSION, "regression", "regressions"),
    (Level.INVALID, "invalid", "invalid"),
    (Level.NO_BASELINE, "without baseline", "without baseline"),
    (Level.WARNING, "warning", "warnings"),
    (Level.IMPROVEMENT, "improvement", "improvements"),
    (Level.NOTE, "other change", "other changes"),
)


def markdown(results: Sequence[LayerResult], *, strict: bool = False, link_base: str = "") -> str:
    """The comment.

    Args:
        results: of the layers that ran.
        strict: whether warnings fail.
        link_base: what links to files begin with, such as `https://github.com/o/r/blob/SHA/`; empty = relative links.
    """
    lines = ["## Gate", "", _ANSWER[exit_code(results, strict=strict)], ""]
    lines += ["| layer | compared | same | " + " | ".join(plural for _, _, plural in _COUNTED) + " |"]
    lines += ["|---|--:|--:|" + "--:|" * len(_COUNTED)]
    for result in results:
        counts = " | ".join(str(len(result.of(level)) or "") for level, _, _ in _COUNTED)
        lines.append(f"| {escape(result.layer)} | {len(result.benchmarks)} | {result.same} | {counts} |")
    for result in results:
        lines += _moved(result, link_base)
    lines += ["", "<details><summary>How it was judged</summary>", ""]
    for result in results:
        lines += [line("**{}**", result.layer), "", *(line("- {}", fact) for fact in result.facts), ""]
    return "\n".join([*lines, "</details>", ""])


def _moved(result: LayerResult, link_base: str) -> list[str]:
    if not result.findings:
        return []
    lines = ["", line("### {}: what moved", result.layer), "", "| | benchmark | what | baseline |", "|---|---|---|---|"]
    lines += [_row(finding, link_base) for finding in result.findings[:MOST_ROWS]]
    rest = result.findings[MOST_ROWS:]
    if rest:
        counted = ", ".join(
            f"{count} {one if count == 1 else many}"
            for level, one, many in _COUNTED
            if (count := sum(finding.level is level for finding in rest))
        )
        lines += ["", f"… and {counted}, listed in the JUnit file."]
    return lines


def _row(finding: Finding, link_base: str) -> str:
    name = link(finding.benchmark, f"{link_base}{finding.source}") if finding.source else finding.benchmark
    record = link(finding.record.rpartition("/")[2], f"{link_base}{finding.record}") if finding.record else ""
    return row((finding.level.value, name, finding.what, record))
