"""Trials and run-offs to a winner: a pure function, so that the same rows always give the same configuration.

Among the near-ties of the final run-off everything that is not slower than the fastest by more than 1 %, or than the
noise floor where that is wider, is equally good; of those the canonical one is taken: results that do not change from
run to run first (no atomics), then the least shared memory, then the order of the space. It replaces the formula's
default only if fresh samples show it to be faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lords_bench.records.measurement import Measurement
from lords_bench.records.trial import RunOff, Settings, Trial, TuningRecord, choice_of
from lords_bench.records.tuned import ROUTE, Choice, Speedup, Summary, TunedEntry

if TYPE_CHECKING:
    from lords_bench.stats.verdict import Judgement

NEAR = 1.05
MOST_FINALISTS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Winner:
    """What a problem's rows say.

    Attributes:
        config: the configuration to use.
        default: the formula's.
        confirmed: whether fresh samples of both were compared; only then a table takes the entry.
        speedup: of the configuration over the default; None where they are the same or nothing was compared.
        ties: how many configurations were as good as the fastest.
    """

    config: Settings
    default: Settings
    confirmed: bool
    speedup: Speedup | None
    measurement: Measurement
    default_measurement: Measurement
    ties: int


def finalists(record: TuningRecord, order: Sequence[Settings]) -> tuple[Settings, ...]:
    """The default and what came within 5 % of the fastest try, at most 8 of them, the fastest first."""
    default = order[0]
    times = {
        config: trial.measurement.median_ns
        for config, trial in record.by_config.items()
        if trial.measurement is not None and not trial.stopped_early
    }
    if not times:
        return ()
    best = min(times.values())
    rank = {config: number for number, config in enumerate(order)}
    near = sorted((time, rank[config], config) for config, time in times.items() if time <= NEAR * best)
    chosen = [config for _, _, config in near][:MOST_FINALISTS]
    return (default, *(config for config in chosen if config != default))


def canonical(record: TuningRecord, final: RunOff, order: Sequence[Settings]) -> tuple[Settings, int] | None:
    """The configuration to take from the final run-off and how many were as good; None if all of them failed."""
    from lords_bench.stats.verdict import MARGIN, Verdict

    measured = [
        (config, found) for config, found in zip(final.configs, final.measurements, strict=True) if found is not None
    ]
    if not measured:
        return None
    _, fastest = min(measured, key=lambda pair: pair[1].median_ns)
    ties = [
        config
        for config, found in measured
        if found is fastest
        or _judged(found, fastest, max(MARGIN, final.noise_floor or 0.0)).verdict in (Verdict.SAME, Verdict.FASTER)
    ]
    rank = {config: number for number, config in enumerate(order)}
    return min(ties, key=lambda config: _preference(record.by_config.get(config), rank[config])), len(ties)


def winner(record: TuningRecord, order: Sequence[Settings]) -> Winner | None:
    """What the rows say; None as long as there is no run-off with both the default and another result."""
    from lords_bench.stats.verdict import Verdict

    final = record.run_off("final")
    chosen = None if final is None else canonical(record, final, order)
    if final is None or chosen is None:
        return None
    config, ties = chosen
    default = order[0]
    confirm = record.run_off("confirm")
    if confirm is not None and config not in confirm.configs:
        confirm = None
    judged_in = final if confirm is None else confirm
    base, found = judged_in.measurement_of(default), judged_in.measurement_of(config)
    if base is None or found is None:
        return None
    verdict = _judged(found, base, judged_in.noise_floor or 0.0)
    better = config != default and verdict.verdict is Verdict.FASTER and verdict.ratio is not None
    better = better and found.median_ns <= base.median_ns
    return Winner(
        config=config if better else default,
        default=default,
        confirmed=confirm is not None or config == default,
        speedup=_speedup(verdict.ratio) if better else None,
        measurement=found if better else base,
        default_measurement=base,
        ties=ties,
    )


def fastest_of(run_off: RunOff) -> Winner | None:
    """What one comparison proves against its baseline, which ties go to; None where the baseline has no times.

    Among configurations that are faster than the baseline and as good as the fastest of them, the first is taken.
    """
    from lords_bench.stats.verdict import MARGIN, Verdict

    base, floor = run_off.measurement_of(run_off.baseline), run_off.noise_floor or 0.0
    if base is None:
        return None
    faster = []
    for config, found in zip(run_off.configs, run_off.measurements, strict=True):
        if found is None or config == run_off.baseline:
            continue
        judged = _judged(found, base, floor)
        if judged.verdict is Verdict.FASTER and found.median_ns <= base.median_ns:
            faster.append((config, found, judged.ratio))
    config, measurement, ratio, ties = run_off.baseline, base, None, 1
    if faster:
        best = min((found for _, found, _ in faster), key=lambda found: found.median_ns)
        good = [
            item
            for item in faster
            if item[1] is best or _judged(item[1], best, max(MARGIN, floor)).verdict in (Verdict.SAME, Verdict.FASTER)
        ]
        (config, measurement, ratio), ties = good[0], len(good)
    return Winner(
        config=config,
        default=run_off.baseline,
        confirmed=True,
        speedup=None if ratio is None else _speedup(ratio),
        measurement=measurement,
        default_measurement=base,
        ties=ties,
    )


def table_entry(record: TuningRecord, found: Winner, *, measured_on: str, commit: str | None) -> TunedEntry:
    """The line for a table.

    Raises:
        RecordError: the winner was not confirmed, or its times were not measured.
    """
    from lords_bench.errors import RecordError

    if record.evidence != "measured":
        raise RecordError(f"times are {record.evidence}, not measured; a table takes only what a device has shown")
    if not found.confirmed:
        raise RecordError("the winner was not confirmed on fresh samples; tune for longer")
    measurement = found.measurement
    return TunedEntry(
        key=record.key,
        choice=_choice(record.key.kernel, found.config),
        default=_choice(record.key.kernel, found.default),
        measured=_summary(measurement),
        default_measured=_summary(found.default_measurement),
        speedup=found.speedup,
        regime=measurement.regime,
        timer=measurement.timer,
        measured_on=measured_on,
        commit=commit,
        run=record.run_offs[-1].run_id,
    )


def _judged(subject: Measurement, baseline: Measurement, noise_floor: float) -> "Judgement":
    """By time alone: a configuration that draws so much power that the clock falls is a slow one."""
    from lords_bench.stats.verdict import judge_measurements

    return judge_measurements(subject, baseline, noise_floor=noise_floor, in_cycles=False)


def _choice(kernel: str, settings: Settings) -> Choice:
    return choice_of(settings) if kernel == ROUTE else Choice(kernel=kernel, settings=settings)


def _preference(trial: Trial | None, rank: int) -> tuple[bool, int, int]:
    code = None if trial is None else trial.code
    return (code is not None and code.atomics, 0 if code is None else code.shared_bytes or 0, rank)


def _speedup(ratio: object) -> Speedup:
    from lords_bench.stats.bootstrap import Interval

    assert isinstance(ratio, Interval)
    assert ratio.low is not None
    assert ratio.high is not None
    return Speedup(median=1 / ratio.estimate, low=1 / ratio.high, high=1 / ratio.low)


def _summary(measurement: Measurement) -> Summary:
    from lords_bench.stats.median import median_interval

    interval = median_interval(measurement.kept_ns)
    low = interval.estimate if interval.low is None else interval.low
    high = interval.estimate if interval.high is None else interval.high
    return Summary(samples=measurement.n, median_ns=interval.estimate, low_ns=low, high_ns=high)
