"""The latency layer: fresh processes of the head against fresh processes of the baseline, on one device.

In every process each method is timed in the same rounds as a dense product, which is the library's and not this
project's: a sample divided by the dense sample of its round is free of what the clock did to the process. One verdict
function (`stats.verdict.judge`) looks at all rounds; what fresh processes differ by is part of the noise floor, and a
regression must also stand out between processes after Holm's correction over all benchmarks.

Records are counted once each and must be possible (`latency_belief`); a benchmark that both sides timed is compared in
at least three processes and against a noise floor, or it is INVALID, as is a gain that no change of code explains.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import fmean, median

from lords_bench.gate.benchmarks import FOREIGN, LAYER, Key, name, same_by_source
from lords_bench.gate.finding import Finding, LayerResult, Level, finished
from lords_bench.gate.latency_belief import counted_once, unbelievable
from lords_bench.records.latency import DENSE, DENSE_AGAIN, LatencyRecord
from lords_bench.records.measurement import PROTOCOL
from lords_bench.records.status import Status
from lords_bench.stats.holm import process_noise, rejected_by_holm, slower_p_value
from lords_bench.stats.median import LEAST
from lords_bench.stats.verdict import MARGIN, Judgement, Verdict, between_processes, judge, noise_floor_of

LEAST_PROCESSES = 3
ALPHA = 0.05
# Nearly twice as fast by a change of code happens once in a while: rarely enough that somebody looks.
MOST_SPEEDUP = 1.8
# Where one candidate differs from itself by more, nothing can be told apart.
MOST_NOISE = 0.2
# What is not settled and this far apart on average is no warning: it cannot be judged.
MOST_UNSETTLED = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One benchmark judged.

    Attributes:
        p_value: of the difference between processes, one-sided, before correction.
        significant: whether it stands after Holm's correction.
        processes: how many each side has, the fewer of the two.
        between: relative difference of the means over processes.
    """

    judgement: Judgement
    p_value: float
    significant: bool
    processes: int
    between: float

    @property
    def is_open(self) -> bool:
        """Whether more processes of both sides could settle it."""
        verdict = self.judgement.verdict
        hidden = verdict is Verdict.SAME and self.judgement.noise_floor > MARGIN
        return hidden or verdict is Verdict.AMBIGUOUS or (verdict is Verdict.SLOWER and not self.significant)


def compare_latency(
    baseline: Sequence[LatencyRecord],
    head: Sequence[LatencyRecord],
    *,
    unusable: Sequence[Finding] = (),
    same_code: Collection[str] = (),
    believed: Collection[str] = (),
) -> LayerResult:
    """Findings of the head's latency against the baseline's.

    Args:
        baseline: records of at least three processes (`run.run_id` names one).
        head: the same of this tree.
        unusable: findings about records that could not be read; they stay in the result.
        same_code: methods whose code is proven to be the same on both sides; they must still be there and work, but
            whatever their times differ by is the machine's doing.
        believed: cases whose gain was looked into and timed again: it is an improvement, however large.
    """
    doubts = list(unbelievable(baseline, head)) if baseline else []
    baseline, head = counted_once(baseline), counted_once(head)
    found = [*unusable, *_unfit(baseline, head), *doubts]
    base_of, head_of = _by_key(baseline), _by_key(head)
    processes = len({record.run.run_id for record in head})
    missing = [_missing(key, base_of[key], head_of.get(key, ()), processes) for key in base_of]
    found += [finding for finding in missing if finding is not None]
    found += (
        Finding(benchmark=name(key), level=Level.NO_BASELINE, what="is timed by this tree, not by the baseline")
        for key in head_of
        if key not in base_of and _is_ok(head_of[key])
    )
    judged = {} if any(f.level is Level.INVALID for f in found) else judge_latency(baseline, head, same=same_code)
    if judged or not any(f.level is Level.INVALID for f in found):
        found += _not_judged(base_of, head_of, judged, same_code)
    proven = [key for key in base_of if key[2] in same_code and _is_ok(head_of.get(key, ()))]
    same = len(proven)
    if proven:
        found.append(same_by_source(same_code, len(proven), "their times are not judged"))
    for key, result in judged.items():
        finding = _finding(key, result, is_believed=key[0] in believed)
        same += finding is None
        if finding is not None:
            found.append(finding)
    floors = sorted(result.judgement.noise_floor for result in judged.values())
    return finished(
        LayerResult(
            layer=LAYER,
            facts=(
                f"regression: slower beyond the noise floor and by more than {MARGIN:.0%}, between processes too",
                f"between processes: Welch's t test, Holm's correction over {len(judged)} benchmarks at {ALPHA:.0%}",
                *([f"noise floor: {median(floors):.2%} median, {floors[-1]:.2%} worst"] if floors else []),
                *_sides(baseline, head),
            ),
            benchmarks=tuple(sorted(name(key) for key in {*base_of, *head_of})),
            same=same,
            findings=tuple(found),
        )
    )


def open_cases(
    baseline: Sequence[LatencyRecord], head: Sequence[LatencyRecord], *, same: Collection[str] = ()
) -> tuple[str, ...]:
    """Cases with a benchmark that more processes could settle; both sides of these, and only these, are timed again."""
    judged = judge_latency(counted_once(baseline), counted_once(head), same=same)
    return tuple(sorted({case for (case, _, _), result in judged.items() if result.is_open}))


def judge_latency(
    baseline: Sequence[LatencyRecord], head: Sequence[LatencyRecord], *, same: Collection[str] = ()
) -> dict[Key, Judged]:
    """Every benchmark that both sides timed well, but those of methods that are `same` in code."""
    sides = [_processes(records) for records in (head, baseline)]
    both = [
        key
        for key in sides[0]
        if key[2] not in same and key in sides[1] and min(len(sides[0][key]), len(sides[1][key])) > 1
    ]
    medians = [{key: [_centre(rounds) for rounds in side[key]] for key in both} for side in sides]
    p_values = {key: slower_p_value(medians[0][key], medians[1][key]) for key in both}
    named = {name(key): value for key, value in p_values.items()}
    rejected = rejected_by_holm(named, alpha=ALPHA)
    again = _aa_floors([*baseline, *head])
    judged = {}
    for key in both:
        floor = max(exp(process_noise(medians[0][key], medians[1][key])) - 1, again.get(key[:2], 0.0))
        judgement = between_processes(judge(*_joined(sides[0][key], sides[1][key]), noise_floor=floor))
        judged[key] = Judged(
            judgement=judgement,
            p_value=p_values[key],
            significant=name(key) in rejected,
            processes=min(len(sides[0][key]), len(sides[1][key])),
            between=exp(fmean(medians[0][key]) - fmean(medians[1][key])) - 1,
        )
    return judged


def _by_key(records: Sequence[LatencyRecord]) -> dict[Key, list[LatencyRecord]]:
    found: dict[Key, list[LatencyRecord]] = defaultdict(list)
    for record in records:
        if record.method not in FOREIGN:
            found[(record.case.case_id, record.regime, record.method)].append(record)
    return dict(found)


def _processes(records: Sequence[LatencyRecord]) -> dict[Key, list[list[float | None]]]:
    """Per benchmark and process: each round's time over that of the dense product in the round.

    A process is named by its run: of several records of one benchmark in one run the first counts.
    """
    dense = {record.comparison_id: record.measurement for record in records if record.method == DENSE}
    found: dict[Key, list[list[float | None]]] = defaultdict(list)
    for key, members in _by_key(records).items():
        counted: set[str] = set()
        for record in members:
            control = dense.get(record.comparison_id)
            if record.measurement is None or control is None or record.run.run_id in counted:
                continue
            counted.add(record.run.run_id)
            pairs = zip(record.measurement.paired_ns, control.paired_ns, strict=False)
            rounds = [None if a is None or b is None else a / b for a, b in pairs]
            if sum(value is not None for value in rounds) >= LEAST:
                found[key].append(rounds)
    return dict(found)


def _joined(
    head: Sequence[list[float | None]], base: Sequence[list[float | None]]
) -> tuple[list[float | None], list[float | None]]:
    """Processes of both sides in turn, each cut to a whole number of round pairs that both have."""
    first: list[float | None] = []
    second: list[float | None] = []
    for ours, theirs in zip(head, base, strict=False):
        count = min(len(ours), len(theirs)) // 2 * 2
        first += ours[:count]
        second += theirs[:count]
    return first, second


def _centre(rounds: Sequence[float | None]) -> float:
    return median(log(value) for value in rounds if value is not None)


def _aa_floors(records: Sequence[LatencyRecord]) -> dict[tuple[str, str], float]:
    """(case, regime) → what the dense product differs from itself by, over all processes of both sides."""
    by_comparison: dict[str, dict[str, LatencyRecord]] = defaultdict(dict)
    for record in records:
        by_comparison[record.comparison_id][record.method] = record
    rounds: dict[tuple[str, str], tuple[list[float | None], list[float | None]]] = defaultdict(lambda: ([], []))
    for members in by_comparison.values():
        one, two = members.get(DENSE), members.get(DENSE_AGAIN)
        if one is not None and two is not None and one.measurement is not None and two.measurement is not None:
            count = min(len(one.measurement.paired_ns), len(two.measurement.paired_ns)) // 2 * 2
            first, second = rounds[(one.case.case_id, one.regime)]
            first += one.measurement.paired_ns[:count]
            second += two.measurement.paired_ns[:count]
    return {key: noise_floor_of(*both) for key, both in rounds.items() if len(both[0]) >= LEAST}


def _is_ok(records: Sequence[LatencyRecord]) -> bool:
    return any(record.status is Status.OK for record in records)


def _not_judged(
    base: Mapping[Key, Sequence[LatencyRecord]],
    head: Mapping[Key, Sequence[LatencyRecord]],
    judged: Mapping[Key, Judged],
    same: Collection[str],
) -> list[Finding]:
    """What both sides have times of and could not be compared, or not in enough processes."""
    found = []
    for key in base.keys() & head.keys():
        if key[2] in same or not (_is_ok(base[key]) and all(record.status is Status.OK for record in head[key])):
            continue
        result = judged.get(key)
        count = 0 if result is None else result.processes
        if count < LEAST_PROCESSES:
            what = f"can be compared in {count} processes, at least {LEAST_PROCESSES} are needed; time both sides again"
            found.append(Finding(benchmark=name(key), level=Level.INVALID, what=what))
    return found


def _missing(key: Key, base: Sequence[LatencyRecord], head: Sequence[LatencyRecord], processes: int) -> Finding | None:
    """A benchmark that the baseline could time and this tree did not, in some process of it."""
    if not _is_ok(base):
        return None
    failed = [record for record in head if record.status is not Status.OK]
    if failed:
        what = f"was timed, now {failed[0].status} in {len(failed)} of {len(head)} processes: {failed[0].reason}"
    elif len(head) < min(processes, LEAST_PROCESSES):
        what = f"vanished: the baseline times it in {len(base)} processes, this tree in {len(head)}"
    else:
        return None
    return Finding(benchmark=name(key), level=Level.REGRESSION, what=what)


def _finding(key: Key, result: Judged, *, is_believed: bool) -> Finding | None:
    judgement = result.judgement
    verdict, ratio = judgement.verdict, judgement.ratio
    if judgement.noise_floor > MOST_NOISE:
        what = f"a candidate differs from itself by {judgement.noise_floor:.0%}: nothing can be told apart; time again"
        return Finding(benchmark=name(key), level=Level.INVALID, what=what)
    if verdict is Verdict.SAME and not result.is_open:
        return None
    if ratio is None or ratio.low is None or ratio.high is None:
        return Finding(benchmark=name(key), level=Level.INVALID, what=judgement.reason or "cannot be judged")
    shown = (
        f"time {ratio.estimate - 1:+.2%} (95 %: {ratio.low - 1:+.2%} to {ratio.high - 1:+.2%}), noise floor "
        f"{judgement.noise_floor:.2%}, {judgement.pairs} pairs of rounds, p between processes {result.p_value:.2g}"
    )
    if verdict is Verdict.FASTER:
        return _faster(key, ratio.estimate, shown, is_believed=is_believed)
    if result.is_open:
        if abs(result.between) > MOST_UNSETTLED:
            what = f"not settled, and processes differ by {result.between:+.0%} on average: {shown}; time more of them"
            return Finding(benchmark=name(key), level=Level.INVALID, what=f"{what} with --processes")
        return Finding(benchmark=name(key), level=Level.WARNING, what=f"not settled: {shown}")
    if ratio.estimate - 1 <= MARGIN:
        return Finding(benchmark=name(key), level=Level.NOTE, what=f"slower by less than {MARGIN:.0%}: {shown}")
    return Finding(benchmark=name(key), level=Level.REGRESSION, what=f"slower: {shown}")


def _faster(key: Key, ratio: float, shown: str, *, is_believed: bool) -> Finding:
    if ratio * MOST_SPEEDUP >= 1:
        return Finding(benchmark=name(key), level=Level.IMPROVEMENT, what=f"faster: {shown}")
    if is_believed:
        what = f"faster: {shown}; believed because --believe says that it was timed again"
        return Finding(benchmark=name(key), level=Level.IMPROVEMENT, what=what)
    what = (
        f"{1 / ratio:.2f} times as fast is not believed, a change of code explains {MOST_SPEEDUP:g}: {shown}; check "
        f"the kernel with 'lords-bench kernels --check', time it again, and if it stays, say so with --believe {key[0]}"
    )
    return Finding(benchmark=name(key), level=Level.INVALID, what=what)


def _unfit(baseline: Sequence[LatencyRecord], head: Sequence[LatencyRecord]) -> list[Finding]:
    """Why the two sides cannot be compared at all."""
    if not baseline:
        return [Finding(benchmark=LAYER, level=Level.NO_BASELINE, what="the baseline has no latency record")]
    found = []
    for side, records in (("baseline", baseline), ("head", head)):
        count = len({record.run.run_id for record in records})
        if count < LEAST_PROCESSES:
            found.append(f"the {side} has {count} processes; at least {LEAST_PROCESSES} are needed")
    # What must be equal on both sides for a time to mean the same.
    for what, values in _conditions(baseline, head).items():
        if len(values) > 1:
            found.append(f"the sides differ in {what}: {' against '.join(sorted(values))}")
    if any(record.run.environment.git_dirty is not False for record in baseline if not record.run.is_fake):
        found.append("the baseline is from a changed tree; time a clean commit")
    return [Finding(benchmark=LAYER, level=Level.INVALID, what=what) for what in found]


def _conditions(*sides: Sequence[LatencyRecord]) -> Mapping[str, set[str]]:
    records = [record for side in sides for record in side]
    protocols = {record.measurement.protocol for record in records if record.measurement}
    return {
        "device": {record.run.environment.device_name for record in records},
        "machine": {str(record.run.environment.hostname_sha256) for record in records},
        "dtype": {record.run.dtype for record in records},
        "seed": {str(record.run.seed) for record in records},
        "policy": {record.run.policy for record in records},
        "made-up numbers": {str(record.run.is_fake) for record in records},
        "python": {record.run.environment.python for record in records},
        "torch": {str(record.run.environment.torch) for record in records},
        "triton": {str(record.run.environment.triton) for record in records},
        "protocol": protocols or {PROTOCOL},
    }


def _sides(*sides: Sequence[LatencyRecord]) -> list[str]:
    found = []
    for title, records in zip(("baseline", "head"), sides, strict=True):
        if records:
            run = records[-1].run
            processes = len({record.run.run_id for record in records})
            commit = (run.environment.git_commit or "no commit")[:12] + (
                " and changes" if run.environment.git_dirty else ""
            )
            found.append(f"{title}: {commit}, {processes} processes on {run.environment.device_name}")
    return found
