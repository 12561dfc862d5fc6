"""What a gate says: findings of several levels about benchmarks, the result of a layer, the exit code of all."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from lords_bench.records.store import NounFile

OK, REGRESSED, INVALID, WITHOUT_BASELINE = 0, 1, 2, 3

Noun = TypeVar("Noun")


class Level(StrEnum):
    """How grave a finding is, the gravest first."""

    REGRESSION = "regression"
    INVALID = "invalid"
    NO_BASELINE = "no baseline"
    WARNING = "warning"
    IMPROVEMENT = "improvement"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that moved, or that keeps the gate from saying whether it did.

    Attributes:
        benchmark: name among the layer's benchmarks; the layer's own name where it concerns all of them.
        what: one line, numbers and remedy included.
        detail: further lines, for whoever wants to know more.
        source: file of the project that it is about, None where there is no single one.
        record: `path#Lline` of the baseline it was held against, None where there is none.
    """

    benchmark: str
    level: Level
    what: str
    detail: tuple[str, ...] = ()
    source: str | None = None
    record: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerResult:
    """What one layer of the gate found.

    Attributes:
        layer: `static`, `accuracy` or `latency`.
        facts: lines that a reader needs to believe it: versions, thresholds, noise.
        benchmarks: everything that was to be compared, by name.
        same: how many of them did not move.
    """

    layer: str
    facts: tuple[str, ...]
    benchmarks: tuple[str, ...]
    same: int
    findings: tuple[Finding, ...]

    def of(self, level: Level) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level is level)


@dataclass(frozen=True, kw_only=True, slots=True)
class Located(Generic[Noun]):
    """A record and where it lies: `reports/static/sm_90.jsonl#L3`; None if not in the repository."""

    record: Noun
    place: str | None


def located(file: NounFile[Noun], shown: Path | None = None) -> tuple[Located[Noun], ...]:
    """Every believable record of a file with its line; `shown` is how the path is to be written."""
    rejected = {line.line for line in file.rejected}
    path = (shown or file.path).as_posix()
    found, line = [], 0
    for record in file.records:
        line += 1
        while line in rejected:
            line += 1
        found.append(Located(record=record, place=f"{path}#L{line}"))
    return tuple(found)


def rejected_findings(layer: str, file: NounFile[Noun], remedy: str, shown: Path | None = None) -> tuple[Finding, ...]:
    """A baseline with a line that cannot be believed is none: one INVALID for each such line."""
    path = (shown or file.path).as_posix()
    return tuple(
        Finding(
            benchmark=layer,
            level=Level.INVALID,
            what=f"{path}, line {line.line} is not believed: {line.reason}; {remedy}",
            record=f"{path}#L{line.line}",
        )
        for line in file.rejected
    )


def finished(result: LayerResult) -> LayerResult:
    """The result with its findings in order of gravity; a layer that compared nothing is never green."""
    findings = list(result.findings)
    if not result.benchmarks and not any(f.level in (Level.INVALID, Level.NO_BASELINE) for f in findings):
        findings.append(Finding(benchmark=result.layer, level=Level.INVALID, what="nothing was compared"))
    order = list(Level)
    return replace(result, findings=tuple(sorted(findings, key=lambda finding: order.index(finding.level))))


def exit_code(results: Iterable[LayerResult], *, strict: bool = False) -> int:
    """0 nothing is worse, 1 a regression, 2 something cannot be judged, 3 a baseline is missing.

    A regression that was found outweighs what could not be judged. `strict` makes warnings regressions.
    """
    levels = {finding.level for result in results for finding in result.findings}
    if Level.REGRESSION in levels or (strict and Level.WARNING in levels):
        return REGRESSED
    if Level.INVALID in levels:
        return INVALID
    return WITHOUT_BASELINE if Level.NO_BASELINE in levels else OK
