"""What a set of comparisons says about LoRDS and one baseline: counts, geometric mean, worst case."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum, log

from lords_bench.records.status import Status
from lords_bench.report.latency.comparisons import Match
from lords_bench.stats.verdict import Judgement, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """LoRDS against one baseline over some comparisons.

    Attributes:
        baseline: the method.
        judged: (comparison, judgement) pairs that have samples of both, in order.
        failed: comparisons where one of the two ended other than well, by status; never counted as a win or a tie.
    """

    baseline: str
    judged: tuple[tuple[Match, Judgement], ...]
    failed: Mapping[Status, int]

    def count(self, *verdicts: Verdict) -> int:
        """Comparisons with one of these verdicts."""
        return sum(judgement.verdict in verdicts for _, judgement in self.judged)

    @property
    def valid(self) -> tuple[tuple[Match, Judgement, float], ...]:
        """(comparison, judgement, speed-up) of those that have a ratio."""
        return tuple(
            (match, judgement, judgement.speedup)
            for match, judgement in self.judged
            if judgement.verdict is not Verdict.INVALID and judgement.speedup is not None
        )

    @property
    def geomean(self) -> float | None:
        """Geometric mean of the speed-ups, ties and losses included; None without any."""
        logs = [log(speedup) for _, _, speedup in self.valid]
        return exp(fsum(logs) / len(logs)) if logs else None

    @property
    def worst(self) -> tuple[Match, float] | None:
        """The comparison with the least speed-up."""
        return min(((match, speedup) for match, _, speedup in self.valid), key=lambda item: item[1], default=None)

    @property
    def best(self) -> tuple[Match, float] | None:
        """The comparison with the greatest speed-up."""
        return max(((match, speedup) for match, _, speedup in self.valid), key=lambda item: item[1], default=None)

    @property
    def failures(self) -> int:
        """Comparisons without a ratio."""
        return sum(self.failed.values()) + self.count(Verdict.INVALID)


def summarise(matches: Sequence[Match], baseline: str, subject: str) -> Summary:
    """LoRDS against the baseline over the comparisons that were to time both."""
    failed: Counter[Status] = Counter()
    judged = []
    for match in matches:
        if baseline not in match.records and baseline not in match.missing:
            continue
        judgement = match.judgements.get(baseline)
        if judgement is not None:
            judged.append((match, judgement))
            continue
        ends = [match.records[name].status for name in (subject, baseline) if name in match.records]
        failed[next((status for status in ends if status is not Status.OK), Status.INVALID)] += 1
    return Summary(baseline=baseline, judged=tuple(judged), failed=dict(sorted(failed.items())))


def by_m(summary: Summary) -> dict[int, tuple[Verdict | None, int]]:
    """M to the verdict that all its comparisons share (None: they differ) and their number, in order of M."""
    found: dict[int, list[Verdict]] = {}
    for match, judgement in summary.judged:
        if judgement.verdict is not Verdict.INVALID:
            found.setdefault(match.case.m, []).append(judgement.verdict)
    return {
        m: (verdicts[0] if len(set(verdicts)) == 1 else None, len(verdicts)) for m, verdicts in sorted(found.items())
    }
