"""`lords-bench gate`: collects what this tree gives, hands it to `lords_bench.gate`, prints and writes the answer.

One module per layer collects; none of them judges. Exit codes: 0 nothing is worse, 1 a regression, 2 something cannot
be judged, 3 a baseline is missing.
"""

from pathlib import Path

from lords_bench.cli.command import Parser
from lords_bench.cli.gate import accuracy_layer, latency_layer, static_layer
from lords_bench.cli.gate.settings import GateSettings
from lords_bench.errors import UsageError
from lords_bench.files import write_whole
from lords_bench.gate.finding import LayerResult, Level, exit_code
from lords_bench.gate.junit import junit_xml
from lords_bench.gate.markdown import markdown
from lords_bench.terminal import Console


def add_arguments(parser: Parser) -> None:
    parser.serve(run, GateSettings, resumes=True)


def run(settings: GateSettings) -> int:
    """Collect, judge, print and write; returns the exit code.

    Raises:
        UsageError: arguments that do not fit together.
        StoreError: an output file cannot be written.
    """
    if settings.pin:
        if settings.accuracy or settings.latency:
            raise UsageError("--pin renews machine code only; renew other baselines with 'lords-bench bench'")
        return static_layer.pin(settings)
    if settings.accuracy and settings.latency and settings.baseline and Path(settings.baseline).is_file():
        raise UsageError(f"--baseline {settings.baseline} is a file of one layer's records; run the layers one by one")
    every = not (settings.static or settings.accuracy or settings.latency)
    results = []
    if settings.static or every:
        results += static_layer.results(settings)
    if settings.accuracy or every:
        results.append(accuracy_layer.result(settings))
    if settings.latency:
        results.append(latency_layer.result(settings))
    return report(results, settings)


def report(results: list[LayerResult], settings: GateSettings) -> int:
    """Print what moved, write the files asked for; returns the exit code.

    Raises:
        StoreError: an output file cannot be written.
    """
    strict = settings.strict
    _print(results)
    for path, text in (
        (settings.markdown, markdown(results, strict=strict, link_base=settings.link_base)),
        (settings.junit, junit_xml(results, strict=strict)),
    ):
        if path is not None:
            write_whole(path, text, remedy="give another path")
    return exit_code(results, strict=strict)


def _print(results: list[LayerResult]) -> None:
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
