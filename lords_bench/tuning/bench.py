"""`Bench`: checks and times configurations of one problem; lives in the evaluation process.

A try is short: check, one sample, and if that is not far behind the best so far, a few more. What decides is a run-off,
which is the measuring protocol in full.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lords_bench.records.measurement import Measurement, Regime
from lords_bench.records.status import Status
from lords_bench.records.trial import Settings
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.device import CandidateError, Device, Sample
from lords_bench.timing.failure import failure_of

SAMPLES = 7
WARM_UP_S = 0.02

# After one of these the process can use the device no more.
STICKY = (
    "illegal memory access",
    "misaligned address",
    "unspecified launch failure",
    "illegal instruction",
    "illegal address",
    "device-side assert",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """How a configuration turned out; `poisoned` means that the process must not be used any more."""

    status: Status
    reason: str | None = None
    measurement: Measurement | None = None
    stopped_early: bool = False
    poisoned: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Duel:
    """Outcome of a run-off: per configuration a measurement, or why there is none."""

    measurements: tuple[Measurement | None, ...]
    reasons: tuple[str | None, ...]
    noise_floor: float | None


class Bench:
    """Configurations of one problem on one device.

    Args:
        device: named configurations to a device that times them; the fake one must know what it is asked for.
        make: a candidate of (configuration, name).
    """

    def __init__(
        self,
        device: Callable[[dict[str, Settings]], Device],
        make: Callable[[Settings, str], Candidate],
        regime: Regime,
    ) -> None:
        self._device = device
        self._make = make
        self._regime: Regime = regime

    def attempt(self, settings: Settings, stop_above_ns: float | None) -> Attempt:
        """Check and time one configuration; give up after one sample above `stop_above_ns`."""
        try:
            candidate = self._make(settings, "0")
            wrong = candidate.check()
            if wrong is not None:
                return Attempt(status=Status.INCORRECT, reason=wrong)
            device = self._device({"0": settings})
            with device.open(self._regime) as session:
                launches = session.prepare(candidate)
                session.warm_up([0], WARM_UP_S)
                samples = list(session.sample_round([0]))
                far_behind = stop_above_ns is not None and samples[0].ns > stop_above_ns
                while not far_behind and len(samples) < SAMPLES:
                    samples += session.sample_round([0])
            measured = _measurement(samples, regime=self._regime, timer=device.timer, launches=launches)
            return Attempt(status=Status.OK, measurement=measured, stopped_early=far_behind)
        # Whatever a configuration raises is its outcome, and the others go on.
        except Exception as error:  # noqa: BLE001
            return _failed(failure_of(error))

    def run_off(self, configs: Sequence[Settings], *, quick: bool) -> Duel:
        """Time configurations in the same rounds; the first one is the baseline."""
        from dataclasses import replace

        from lords_bench.timing.comparison import FULL, QUICK
        from lords_bench.timing.protocol import compare

        named = {str(number): config for number, config in enumerate(configs)}
        result = compare(
            self._device(named),
            [self._make(config, name) for name, config in named.items()],
            baseline="0",
            regime=self._regime,
            policy=replace(QUICK if quick else FULL, energy=False),
        )
        outcomes = [result.outcome(name) for name in named]
        return Duel(
            measurements=tuple(outcome.measurement for outcome in outcomes),
            reasons=tuple(
                None if outcome.reason is None else f"{outcome.status}: {outcome.reason}" for outcome in outcomes
            ),
            noise_floor=result.noise_floor,
        )


def _measurement(samples: Sequence[Sample], *, regime: Regime, timer: str, launches: int) -> Measurement:
    return Measurement(
        regime=regime,
        timer=timer,
        samples_ns=tuple(sample.ns for sample in samples),
        launches_per_sample=launches,
        clock_mhz=tuple(sample.clock_mhz for sample in samples),
    )


def _failed(error: CandidateError) -> Attempt:
    poisoned = any(text in error.reason for text in STICKY)
    return Attempt(status=error.status, reason=error.reason, poisoned=poisoned)
