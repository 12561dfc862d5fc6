"""What the gate leaves behind: lines on the terminal, a Markdown comment, JUnit XML, and the exit code."""

import argparse
from pathlib import Path

from lords_bench.files import write_whole
from lords_bench.gate.finding import LayerResult, Level, exit_code
from lords_bench.gate.junit import junit_xml
from lords_bench.gate.markdown import markdown


def report(results: list[LayerResult], arguments: argparse.Namespace) -> int:
    """Print what moved, write the files asked for; returns the exit code.

    Raises:
        StoreError: an output file cannot be written.
    """
    strict = arguments.strict
    _print(results)
    for path, text in (
        (arguments.markdown, markdown(results, strict=strict, link_base=arguments.link_base)),
        (arguments.junit, junit_xml(results, strict=strict)),
    ):
        if path is not None:
            write(path, text)
    return exit_code(results, strict=strict)


def write(path: Path, text: str) -> None:
    """Write a whole file or nothing.

    Raises:
        StoreError: the disk refuses.
    """
    write_whole(path, text, remedy="give another path")


def _print(results: list[LayerResult]) -> None:
    from lords_bench.terminal import Console

    console = Console(soft_wrap=True, highlight=False)
    styles = {Level.REGRESSION: "red", Level.INVALID: "red", Level.NO_BASELINE: "yellow", Level.WARNING: "yellow"}
    for result in results:
        for finding in result.findings:
            place = f" [{finding.record}]" if finding.record else ""
            source = f" ({finding.source})" if finding.source else ""
            line = f"{finding.level.value}: {finding.benchmark}{source}: {finding.what}{place}"
            console.print(line, style=styles.get(finding.level))
        counts = ", ".join(f"{len(result.of(level))} {level.value}" for level in Level if result.of(level))
        console.print(
            f"gate, {result.layer}: {len(result.benchmarks)} compared, {result.same} the same"
            + (f", {counts}" if counts else ""),
            markup=False,
        )
