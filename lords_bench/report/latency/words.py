"""The device report's verdict in words. Losses and gains are worded alike; what is not resolved says so."""

from collections.abc import Sequence

from lords_bench.report.format import listing, number
from lords_bench.report.latency.comparisons import Match
from lords_bench.report.latency.summary import Summary, by_m
from lords_bench.stats.verdict import Verdict

WORDS = {
    Verdict.FASTER: "faster",
    Verdict.SAME: "within the noise",
    Verdict.SLOWER: "slower",
    Verdict.AMBIGUOUS: "not resolved",
    None: "mixed",
}
_ORDER = (Verdict.FASTER, Verdict.SAME, Verdict.SLOWER, None, Verdict.AMBIGUOUS)


def times(value: float) -> str:
    """A speed-up: `1.43×`, `12.4×`, `0.083×`."""
    return f"{number(value, 1 if value >= 10 else 2 if value >= 0.1 else 3)}×"


def microseconds(value_ns: float) -> str:
    """A time with three digits: `1.23 µs`, `45.6 µs`, `12.3 ms`."""
    value, unit = (value_ns / 1e3, "µs") if value_ns < 1e6 else (value_ns / 1e6, "ms")
    return f"{number(value, 2 if value < 10 else 1 if value < 100 else 0)} {unit}"


def where(match: Match) -> str:
    """Layer and M of a comparison."""
    return f"{match.case.model} {match.case.layer}, M = {match.case.m}"


def ranges(values: Sequence[int], ladder: Sequence[int]) -> str:
    """`1…16 and 256`: runs of the ladder's neighbours are joined."""
    positions = {value: index for index, value in enumerate(ladder)}
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and positions[value] == positions[runs[-1][-1]] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return listing([str(run[0]) if len(run) == 1 else f"{run[0]}…{run[-1]}" for run in runs])


def by_m_words(summary: Summary) -> str:
    """`faster at M = 1…16, mixed at M = 64, slower at M = 256…4096`; empty without a verdict."""
    found = by_m(summary)
    groups: dict[Verdict | None, list[int]] = {}
    for m, (verdict, _) in found.items():
        groups.setdefault(verdict, []).append(m)
    return ", ".join(
        f"{WORDS[verdict]} at M = {ranges(groups[verdict], tuple(found))}" for verdict in _ORDER if verdict in groups
    )


def counts_words(summary: Summary) -> str:
    """`faster in 16, within the noise in 2, slower in 8, not resolved in 2 of 28; 3 not measured`."""
    order = (Verdict.FASTER, Verdict.SAME, Verdict.SLOWER, Verdict.AMBIGUOUS)
    counted = ", ".join(f"{WORDS[verdict]} in {count}" for verdict in order if (count := summary.count(verdict)))
    failures = f"; {summary.failures} not measured" if summary.failures else ""
    return f"{counted or 'nothing compared'} of {len(summary.valid)}{failures}"


def headline(summaries: Sequence[tuple[str, Summary]], *, where_words: str) -> str:
    """One sentence: `LoRDS is faster than A …; than B …`. Baselines of which nothing was judged are left out."""
    clauses = [f"against {label}: {words}" for label, summary in summaries if (words := by_m_words(summary))]
    if not clauses:
        return f"{where_words}: no verdict, LoRDS and its baselines have no samples taken together."
    return f"{where_words}, LoRDS is, {'; '.join(clauses)}."
