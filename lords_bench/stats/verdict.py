"""`judge`: is the subject faster than the baseline? One pure function for tuner, report and gate.

The samples of both were taken round by round; the ratio of each round is what is judged, so that whatever slowed both
down cancels. No verdict is finer than the noise floor, which an A/A comparison of the same machine and minute gave, on
buffers of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp, isfinite, log1p

from lords_bench.errors import RecordError
from lords_bench.records.measurement import Measurement
from lords_bench.stats.bootstrap import Interval
from lords_bench.stats.layouts import UNSEEN_LAYOUT, is_single, paired_ratio, shared_layouts
from lords_bench.stats.median import LEAST

# A difference below this one does not matter to anybody: what is surely within it is SAME.
MARGIN = 0.01

Rounds = Sequence[float | None]


class Verdict(StrEnum):
    """What a comparison says about the subject."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    AMBIGUOUS = "ambiguous"
    INVALID = "invalid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A verdict and what it rests on.

    Attributes:
        ratio: time of the subject over that of the baseline with its 95 % interval; above 1 is slower. None if INVALID.
        cycles: the same in clock cycles; None where the clock is unknown.
        noise_floor: relative difference that two equal candidates showed.
        pairs: how many independent ratios the interval rests on: layouts, or blocks of rounds on one layout.
        reason: one line for AMBIGUOUS and INVALID, else None.
    """

    verdict: Verdict
    ratio: Interval | None
    cycles: Interval | None
    noise_floor: float
    pairs: int
    reason: str | None

    @property
    def speedup(self) -> float | None:
        """How many times as fast as the baseline the subject is."""
        return None if self.ratio is None else 1 / self.ratio.estimate


def judge_measurements(
    subject: Measurement,
    baseline: Measurement,
    *,
    noise_floor: float,
    margin: float = MARGIN,
    in_cycles: bool = True,
) -> Judgement:
    """`judge` two measurements of one comparison; `in_cycles` = False asks for the time alone."""
    return judge(
        subject.paired_ns,
        baseline.paired_ns,
        noise_floor=noise_floor,
        subject_clock_mhz=subject.clock_mhz if in_cycles else None,
        baseline_clock_mhz=baseline.clock_mhz if in_cycles else None,
        layouts=shared_layouts(subject.layouts, baseline.layouts),
        margin=margin,
    )


def measured_floor(first: Measurement, second: Measurement) -> float | None:
    """`noise_floor_of` two measurements of one candidate; None where fewer than six rounds have both samples."""
    if len(set(first.kept_rounds) & set(second.kept_rounds)) < LEAST:
        return None
    return noise_floor_of(first.paired_ns, second.paired_ns, layouts=shared_layouts(first.layouts, second.layouts))


def judge(
    subject_samples: Rounds,
    baseline_samples: Rounds,
    *,
    noise_floor: float,
    subject_clock_mhz: Rounds | None = None,
    baseline_clock_mhz: Rounds | None = None,
    layouts: Sequence[int] = (),
    margin: float = MARGIN,
) -> Judgement:
    """Compare two candidates that were timed in the same rounds.

    FASTER or SLOWER: the 95 % interval of the paired ratio lies wholly beyond the noise floor and, where the
    clocks are known and differ, the interval in cycles lies on the same side of 1. SAME: the interval lies within
    `margin` or the noise floor, whichever is wider. Else AMBIGUOUS; INVALID if fewer than six rounds have both samples.

    Args:
        subject_samples: time of each round, any unit, None where the sample was dropped.
        baseline_samples: the same of the baseline, the same rounds.
        noise_floor: relative difference that an A/A comparison of this run showed, such as 0.004.
        subject_clock_mhz: clock of each round, None where it is unknown.
        baseline_clock_mhz: the same of the baseline.
        layouts: which buffers each round ran on, by which the interval is clustered; where it is one layout throughout,
            no difference below 2 % is called one. Empty = not known, every block of rounds counts by itself.
        margin: relative difference that does not matter.

    Raises:
        RecordError: different numbers of rounds, or a noise floor or margin that is not a finite number from 0 up.
    """
    for name, value in (("noise_floor", noise_floor), ("margin", margin)):
        if not (isfinite(value) and value >= 0):
            raise RecordError(f"{name} is {value}; give a finite relative difference such as 0.004")
    if len(subject_samples) != len(baseline_samples):
        raise RecordError(
            f"a comparison needs the same rounds: {len(subject_samples)} samples against {len(baseline_samples)}"
        )
    wrong = [v for v in (*subject_samples, *baseline_samples) if v is not None and not (isfinite(v) and v > 0)]
    if wrong:
        return _invalid(f"a sample is {wrong[0]}, a time is positive and finite", noise_floor)
    if is_single(layouts):
        noise_floor = max(noise_floor, UNSEEN_LAYOUT)
    found = paired_ratio(subject_samples, baseline_samples, layouts)
    if found is None:
        return _invalid(_too_few(subject_samples, baseline_samples), noise_floor)
    in_time = found.interval
    clocks = (subject_clock_mhz or (), baseline_clock_mhz or ())
    in_cycles, clock = _in_cycles(subject_samples, baseline_samples, *clocks, layouts)
    verdict, reason = _decide(in_time, in_cycles, clock, floor=log1p(noise_floor), margin=log1p(margin))
    return Judgement(
        verdict=verdict,
        ratio=_exp(in_time),
        cycles=None if in_cycles is None else _exp(in_cycles),
        noise_floor=noise_floor,
        pairs=found.values,
        reason=reason,
    )


def between_processes(judgement: Judgement) -> Judgement:
    """The judgement with its ratio's interval at least as wide as the noise floor, for rounds of several processes.

    Processes differ by more than the blocks of rounds in them, which the interval takes to be independent: by itself it
    held the truth in 46 of 100 runs of three processes a side. The verdict stays, since the floor was part of it.
    """
    ratio = judgement.ratio
    if ratio is None or ratio.low is None or ratio.high is None:
        return judgement
    floor = 1 + judgement.noise_floor
    low, high = min(ratio.low, ratio.estimate / floor), max(ratio.high, ratio.estimate * floor)
    return replace(judgement, ratio=Interval(estimate=ratio.estimate, low=low, high=high))


def noise_floor_of(first: Rounds, second: Rounds, *, layouts: Sequence[int] = ()) -> float:
    """Relative difference that two runs of one candidate in the same rounds are compatible with.

    The farther end of the 95 % interval of their paired ratio: what this machine can be off by in this minute. At least
    2 % where both are known to have had one layout only: what stays with it was not seen.

    Raises:
        RecordError: fewer than six rounds have both samples, or all of them are of one layout out of several.
    """
    found = paired_ratio(first, second, layouts)
    if found is None:
        raise RecordError(f"no noise floor: {_too_few(first, second)}")
    assert found.interval.low is not None
    assert found.interval.high is not None
    seen = exp(max(-found.interval.low, found.interval.high)) - 1
    return max(seen, UNSEEN_LAYOUT) if is_single(layouts) else seen


def _decide(
    time: Interval, cycles: Interval | None, clock: Interval | None, *, floor: float, margin: float
) -> tuple[Verdict, str | None]:
    side = _side(time, floor)
    if side:
        verdict = Verdict.SLOWER if side > 0 else Verdict.FASTER
        if cycles is not None and clock is not None and _side(clock, 0.0) and _side(cycles, 0.0) != side:
            return Verdict.AMBIGUOUS, (
                f"{verdict} in time but not in cycles: the clock ran at {exp(clock.estimate):.3f} of the baseline's"
            )
        return verdict, None
    widest = max(floor, margin)
    assert time.low is not None
    assert time.high is not None
    if -widest <= time.low and time.high <= widest:
        return Verdict.SAME, None
    shown = f"{exp(time.low) - 1:+.2%} to {exp(time.high) - 1:+.2%}"
    return Verdict.AMBIGUOUS, f"the difference lies in {shown}, the noise floor is {exp(floor) - 1:.2%}"


def _side(interval: Interval, threshold: float) -> int:
    """1 if the interval lies above the threshold, -1 if below its negative, else 0."""
    assert interval.low is not None
    assert interval.high is not None
    return int(interval.low > threshold) - int(interval.high < -threshold)


def _in_cycles(
    subject: Rounds, baseline: Rounds, subject_clock: Rounds, baseline_clock: Rounds, layouts: Sequence[int]
) -> tuple[Interval | None, Interval | None]:
    """Intervals of the log-ratios of cycles and of clocks; None where too few clocks are known."""
    if len(subject_clock) != len(subject) or len(baseline_clock) != len(baseline):
        return None, None
    clocks = [
        (c, d) if None not in (a, b, c, d) else (None, None)
        for a, b, c, d in zip(subject, baseline, subject_clock, baseline_clock, strict=True)
    ]
    cycles = paired_ratio(_cycles(subject, subject_clock), _cycles(baseline, baseline_clock), layouts)
    rates = paired_ratio([c for c, _ in clocks], [d for _, d in clocks], layouts)
    return (None, None) if cycles is None or rates is None else (cycles.interval, rates.interval)


def _cycles(times: Rounds, clocks: Rounds) -> list[float | None]:
    return [None if t is None or c is None else t * c for t, c in zip(times, clocks, strict=True)]


def _too_few(first: Rounds, second: Rounds) -> str:
    both = sum(a is not None and b is not None for a, b in zip(first, second, strict=True))
    if both < LEAST:
        return f"only {both} rounds have both samples, {LEAST} are needed"
    return "all rounds with both samples ran on one of several layouts"


def _exp(interval: Interval) -> Interval:
    assert interval.low is not None
    assert interval.high is not None
    return Interval(estimate=exp(interval.estimate), low=exp(interval.low), high=exp(interval.high))


def _invalid(reason: str, noise_floor: float) -> Judgement:
    return Judgement(verdict=Verdict.INVALID, ratio=None, cycles=None, noise_floor=noise_floor, pairs=0, reason=reason)
