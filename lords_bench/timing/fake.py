"""A device whose truth is known: it makes up samples with drift, throttling, spikes and quantised clocks, on request.

Time is virtual, random numbers are drawn in blocks from a seeded `RandomState`, whose stream NumPy has frozen, and
nothing is launched.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from lords_bench.records.measurement import Peaks, Regime
from lords_bench.records.status import Status
from lords_bench.timing.batch import batch_launches
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.device import Border, CandidateError, Need, Sample

MAX_LAUNCHES = 256
_BLOCK = 512
_STEADY_MHZ = 1755.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FakeNoise:
    """What disturbs a fake device; the default disturbs nothing.

    Attributes:
        jitter: relative standard deviation of a sample, log-normal.
        drift: relative standard deviation of a slow wander of the clock, with a memory of `drift_samples`.
        drift_samples: how many samples that memory lasts.
        warm_up: share by which the clock falls while the device warms up, with a memory of `warm_up_s` seconds.
        warm_up_s: how long warming up takes.
        throttle_rate: probability per sample that throttling begins.
        throttle_samples: mean number of samples it lasts.
        throttle_clock: share of the clock that remains meanwhile.
        spike_rate: probability that a sample has a spike.
        spike_size: mean relative size of a spike, exponential.
        timer_step_ns: events are told in whole steps of this; 0 = exactly.
        clock_step_mhz: the clock takes whole steps of this; 0 = any value.
        clock_error: relative standard deviation of the clock's stamp.
        second_place: relative slowdown of a sample that does not come first in its round.
        clock_known: whether samples carry their clock.
        memory_bound: 0 where time follows the clock, 1 where it does not depend on it.
        layout: relative standard deviation of what stays with an allocation: every layout of a candidate has its own.
        period: every so many samples one is slower by `period_size`, whoever's it is; 0 = none.
        period_size: relative slowdown of such a sample.
        burst_rate: probability per sample that a burst of foreign work begins; the clock does not tell of it.
        burst_samples: mean number of samples it lasts.
        burst_size: relative slowdown meanwhile.
        second_state: share of the clock in the second of two states that it changes between; 1 = one state.
        state_samples: mean number of samples in a state.
    """

    jitter: float = 0.0
    drift: float = 0.0
    drift_samples: int = 100
    warm_up: float = 0.0
    warm_up_s: float = 0.2
    throttle_rate: float = 0.0
    throttle_samples: int = 10
    throttle_clock: float = 0.6
    spike_rate: float = 0.0
    spike_size: float = 1.0
    timer_step_ns: float = 0.0
    clock_step_mhz: float = 0.0
    clock_error: float = 0.0
    second_place: float = 0.0
    clock_known: bool = True
    memory_bound: float = 0.0
    layout: float = 0.0
    period: int = 0
    period_size: float = 0.0
    burst_rate: float = 0.0
    burst_samples: int = 20
    burst_size: float = 0.0
    second_state: float = 1.0
    state_samples: int = 50


QUIET = FakeNoise(jitter=0.002, clock_error=0.001)
# What a shared, unlocked GPU on a bad day does, all at once.
NOISY = FakeNoise(
    jitter=0.01,
    drift=0.03,
    warm_up=0.05,
    throttle_rate=0.002,
    spike_rate=0.03,
    spike_size=0.5,
    timer_step_ns=500.0,
    clock_step_mhz=15.0,
    clock_error=0.002,
    second_place=0.004,
)


@dataclass(kw_only=True)
class FakeDevice:
    """Times candidates by their name.

    Attributes:
        truth_ns: name to the time of one launch on the undisturbed device.
        noise: what disturbs it.
        seed: of all its random numbers; two sessions of one device go on drawing.
        failures: name to how `prepare` fails.
        borders: what `border` answers in turn, the last for ever after; empty = a quiet border.
        free_bytes: memory that layouts may take; None = not told.
        launches: whether candidates are really launched once per sample, for candidates that act up.
    """

    truth_ns: Mapping[str, float]
    noise: FakeNoise = QUIET
    seed: int = 0
    failures: Mapping[str, tuple[Status, str]] = field(default_factory=dict)
    borders: Sequence[Border] = ()
    free_bytes: int | None = None
    launches: bool = False
    name: str = "fake"
    timer: str = "fake"
    cache_bytes: int | None = 50 * 2**20
    peaks: Peaks = field(default_factory=Peaks)
    energy_mj: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._generator = np.random.RandomState(self.seed)

    @property
    def order_seed(self) -> int:
        """The order of samples is as reproducible as the rest."""
        return self.seed

    @contextmanager
    def open(self, regime: Regime) -> Iterator["FakeSession"]:
        """A session; every regime has the same truth."""
        assert regime
        yield FakeSession(self, self._generator)


class FakeSession:
    """Samples of a fake device; its clock starts at 0 and moves with every sample."""

    def __init__(self, device: FakeDevice, generator: np.random.RandomState) -> None:
        self._device = device
        self._noise = device.noise
        self._generator = generator
        self._candidates: list[Candidate] = []
        self._launches: list[int] = []
        self._now_ns = 0.0
        self._borders = 0
        self._wander = 0.0
        self._throttled = 0
        self._bursting = self._second = False
        # Interference was there before the first sample: nobody knows at which place of its period.
        self._taken = generator.randint(noise.period) if (noise := device.noise).period else 0
        self._layouts: list[float] = []
        self._cursor = _BLOCK
        self._draws: npt.NDArray[np.float64] = np.zeros((0, 0))
        self._uniform: npt.NDArray[np.float64] = np.zeros((0, 0))

    def need(self, candidate: Candidate) -> Need:
        """By the truth and the step of the timer."""
        if candidate.name in self._device.failures:
            raise CandidateError(*self._device.failures[candidate.name])
        truth_ns = self._device.truth_ns[candidate.name]
        return Need(batch_launches(truth_ns, self._noise.timer_step_ns, limit=MAX_LAUNCHES), truth_ns)

    def prepare(self, candidate: Candidate, launches: int | None = None) -> int:
        """Number the candidate, and draw what stays with its buffers; fails where the device was told to."""
        if candidate.name in self._device.failures:
            raise CandidateError(*self._device.failures[candidate.name])
        if self._device.launches:
            candidate.launch(0)
        self._candidates.append(candidate)
        self._layouts.append(1 + self._noise.layout * float(self._generator.standard_normal()))
        self._launches.append(self.need(candidate).launches if launches is None else launches)
        return self._launches[-1]

    def free_bytes(self) -> int | None:
        """What the device was told."""
        return self._device.free_bytes

    def warm_up(self, order: Sequence[int], seconds: float) -> list[Sample]:
        """Virtual time passes, but for a few samples at the end."""
        self._now_ns += seconds * 1e9
        return [sample for _ in range(-(-20 // len(order))) for sample in self.sample_round(order)]

    def sample_round(self, order: Sequence[int]) -> list[Sample]:
        """One made-up sample of each."""
        return [self._sample(index, place) for place, index in enumerate(order)]

    def border(self) -> Border:
        """The next of the device's borders."""
        borders = self._device.borders
        self._borders += 1
        return borders[min(self._borders, len(borders)) - 1] if borders else Border()

    def rest(self, seconds: float) -> None:
        """Virtual time passes, and throttling ends."""
        self._now_ns += seconds * 1e9
        self._throttled = 0

    def now_s(self) -> float:
        """Virtual seconds since the session began."""
        return self._now_ns * 1e-9

    def energy_mj(self, index: int) -> float | None:
        """What the device was told, for every candidate."""
        assert index >= 0
        return self._device.energy_mj

    def _sample(self, index: int, place: int) -> Sample:
        noise, candidate, launches = self._noise, self._candidates[index], self._launches[index]
        if self._cursor == _BLOCK:
            self._draws = self._generator.standard_normal((_BLOCK, 3))
            self._uniform = self._generator.random_sample((_BLOCK, 6))
            self._cursor = 0
        jitter, wander, stamp = self._draws[self._cursor].tolist()
        begins, ends, spikes, size, burst, state = self._uniform[self._cursor].tolist()
        self._cursor += 1
        if self._device.launches:
            candidate.launch(0)
        clock = self._clock(wander, begins, ends, state)
        time_ns = launches * self._device.truth_ns[candidate.name] * (_STEADY_MHZ / clock) ** (1 - noise.memory_bound)
        time_ns *= float(np.exp(noise.jitter * jitter)) * self._layouts[index] * self._interference(burst)
        if spikes < noise.spike_rate:
            time_ns *= 1 - noise.spike_size * float(np.log1p(-size))
        if place:
            time_ns *= 1 + noise.second_place
        self._now_ns += time_ns
        if noise.timer_step_ns:
            time_ns = round(time_ns / noise.timer_step_ns) * noise.timer_step_ns
        seen = clock * (1 + noise.clock_error * stamp) if noise.clock_known else None
        return Sample(time_ns / launches, seen)

    def _interference(self, burst: float) -> float:
        """What foreign work makes of the next sample's time, of one uniform draw."""
        noise, self._taken = self._noise, self._taken + 1
        if burst < (1 / noise.burst_samples if self._bursting else noise.burst_rate):
            self._bursting = not self._bursting
        periodic = noise.period_size if noise.period and self._taken % noise.period == 0 else 0.0
        return (1 + periodic) * (1 + noise.burst_size * self._bursting)

    def _clock(self, wander: float, begins: float, ends: float, state: float) -> float:
        """The clock of the next sample, of one normal and three uniform draws."""
        noise = self._noise
        if noise.second_state < 1 and state < 1 / noise.state_samples:
            self._second = not self._second
        keep = 1 - 1 / noise.drift_samples
        self._wander = keep * self._wander + (1 - keep * keep) ** 0.5 * noise.drift * wander
        clock = _STEADY_MHZ * (1 - self._wander)
        if noise.warm_up:
            clock *= 1 + noise.warm_up * float(np.exp(-self._now_ns * 1e-9 / noise.warm_up_s))
        if self._throttled:
            self._throttled = int(ends >= 1 / noise.throttle_samples)
        elif begins < noise.throttle_rate:
            self._throttled = 1
        if self._throttled:
            clock *= noise.throttle_clock
        if self._second:
            clock *= noise.second_state
        if noise.clock_step_mhz:
            clock = max(noise.clock_step_mhz, round(clock / noise.clock_step_mhz) * noise.clock_step_mhz)
        return clock


def fake_candidate(name: str, **changes: object) -> Candidate:
    """A candidate that does nothing and is right, on as many layouts as are asked for; `changes` replace its fields."""
    plain = Candidate(name=name, launch=lambda _slot: None, check=lambda: None)
    launch = replace(plain, **changes).launch  # type: ignore[arg-type]
    return replace(plain, **({"launch_on": lambda _layout: launch} | changes))  # type: ignore[arg-type]
