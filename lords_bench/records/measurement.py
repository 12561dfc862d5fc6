"""`Measurement`: raw samples of one candidate, and what is known about the moments they were taken in.

Samples are kept whole: those dropped for a cause stand in their place, so that the samples of two candidates of one
comparison belong together round by round. Statistics are properties of what was kept, computed when they are asked for.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, get_args

from lords_bench.errors import RecordError

# cold: nothing of the operands in cache. hot: the same operands again and again. eager: wall clock of a call from
# Python, launch included. Numbers of different regimes are never compared.
Regime = Literal["cold", "hot", "eager"]
REGIMES: tuple[Regime, ...] = get_args(Regime)

# Changes when equal hardware could give other numbers: samples of different protocols are never compared.
PROTOCOL = "lords-bench/timing/2"


@dataclass(frozen=True, kw_only=True, slots=True)
class Peaks:
    """What the device reached when it was asked for nothing else; None where it was not measured.

    Attributes:
        copy_gbps: bytes read plus bytes written of a large copy, 10⁹ per second.
        read_gbps: bytes read of a large reduction, 10⁹ per second.
        matmul_tflops: bfloat16 product of two large matrices, 10¹² operations per second, a multiply-add being two.
    """

    copy_gbps: float | None = None
    read_gbps: float | None = None
    matmul_tflops: float | None = None

    def __post_init__(self) -> None:
        for name in ("copy_gbps", "read_gbps", "matmul_tflops"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value > 0):
                raise RecordError(f"peaks.{name} is {value}; a measured peak is positive, an unknown one is None")

    @property
    def memory_gbps(self) -> float | None:
        """The fastest that memory was seen to be."""
        return max((value for value in (self.copy_gbps, self.read_gbps) if value is not None), default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """Samples of one candidate, one per round; it exists only where they can be believed.

    Attributes:
        regime: state of the caches and what the clock was around.
        timer: what measured, such as `cuda-events` or `perf-counter`.
        protocol: version of the rules the samples were taken by.
        samples_ns: time of one launch in each round, in round order; rounds 2i and 2i + 1 ran in opposite orders.
        launches_per_sample: launches that were timed together and divided by.
        clock_mhz: clock of the multiprocessors in each round; None where it is unknown.
        dropped: (round, cause) of each sample that is not used, in round order.
        energy_mj: energy of one launch in millijoules, idle power included; None where it was not measured.
        layouts: number of the buffers that each round ran on; equal numbers are the same memory. Empty = not recorded.
        places: place of the sample in each round, from 0; empty = not recorded.

    Raises:
        RecordError: fields that contradict each other, or nothing kept.
    """

    regime: Regime
    timer: str
    protocol: str = PROTOCOL
    samples_ns: tuple[float, ...]
    launches_per_sample: int = 1
    clock_mhz: tuple[float | None, ...]
    dropped: tuple[tuple[int, str], ...] = ()
    energy_mj: float | None = None
    layouts: tuple[int, ...] = field(default=(), metadata={"since": 1})
    places: tuple[int, ...] = field(default=(), metadata={"since": 1})

    def __post_init__(self) -> None:
        if self.regime not in REGIMES:
            raise RecordError(f"measurement.regime is {self.regime!r}; it must be one of {', '.join(REGIMES)}")
        if len(self.clock_mhz) != len(self.samples_ns):
            raise RecordError(f"measurement has {len(self.samples_ns)} samples and {len(self.clock_mhz)} clocks")
        if self.launches_per_sample < 1:
            raise RecordError(f"measurement.launches_per_sample is {self.launches_per_sample}; it is at least 1")
        for what, values in (("layouts", self.layouts), ("places", self.places)):
            if values and (len(values) != len(self.samples_ns) or min(values) < 0):
                raise RecordError(
                    f"measurement has {len(self.samples_ns)} samples and {len(values)} {what}, the least of them "
                    f"{min(values)}; give one from 0 up per round"
                )
        rounds = [index for index, _ in self.dropped]
        if rounds != sorted(set(rounds)) or any(not 0 <= index < len(self.samples_ns) for index in rounds):
            raise RecordError(f"measurement.dropped names the rounds {rounds}; each sample once, in order")
        if not self.kept_ns:
            raise RecordError("measurement has no sample left; without one the status is not ok")
        if any(not (isfinite(value) and value > 0) for value in self.kept_ns):
            raise RecordError(f"measurement.samples_ns holds {min(self.kept_ns)}; a time is positive and finite")

    @property
    def kept_rounds(self) -> tuple[int, ...]:
        """Rounds whose sample is used."""
        without = {index for index, _ in self.dropped}
        return tuple(index for index in range(len(self.samples_ns)) if index not in without)

    @property
    def kept_ns(self) -> tuple[float, ...]:
        """The samples that are used, in round order."""
        return tuple(self.samples_ns[index] for index in self.kept_rounds)

    @property
    def paired_ns(self) -> tuple[float | None, ...]:
        """One entry per round, None where it was dropped: what `stats.verdict.judge` takes."""
        without = {index for index, _ in self.dropped}
        return tuple(None if index in without else value for index, value in enumerate(self.samples_ns))

    @property
    def n(self) -> int:
        """How many samples are used."""
        return len(self.kept_rounds)

    @property
    def min_ns(self) -> float:
        """Least sample."""
        return min(self.kept_ns)

    @property
    def q1_ns(self) -> float:
        """Lower quartile."""
        return quantile(self.kept_ns, 0.25)

    @property
    def median_ns(self) -> float:
        """The number to quote."""
        return quantile(self.kept_ns, 0.5)

    @property
    def q3_ns(self) -> float:
        """Upper quartile."""
        return quantile(self.kept_ns, 0.75)

    @property
    def p95_ns(self) -> float:
        """95th percentile."""
        return quantile(self.kept_ns, 0.95)

    @property
    def median_clock_mhz(self) -> float | None:
        """Median clock of the samples that are used; None where no clock is known."""
        known = [clock for index in self.kept_rounds if (clock := self.clock_mhz[index]) is not None]
        return quantile(tuple(known), 0.5) if known else None


def quantile(values: tuple[float, ...], share: float) -> float:
    """Linear interpolation between order statistics, as NumPy's default; `values` is not empty."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


# What rounding of timer and peak may add before a number is called impossible.
CEILING_SLACK = 1.02


def above_ceiling(measured: Measurement, peaks: Peaks, *, bytes_moved: int | None, flops: int | None) -> str | None:
    """Why the time cannot be true; None where nothing speaks against it."""
    if bytes_moved is not None and peaks.memory_gbps is not None and measured.regime == "cold":
        reached = bytes_moved / measured.median_ns
        if reached > CEILING_SLACK * peaks.memory_gbps:
            return f"{reached:.0f} GB/s is more than the {peaks.memory_gbps:.0f} GB/s that memory was measured to give"
    if flops is not None and peaks.matmul_tflops is not None:
        reached = flops / measured.median_ns / 1e3
        if reached > CEILING_SLACK * peaks.matmul_tflops:
            return f"{reached:.0f} TFLOP/s is more than the {peaks.matmul_tflops:.0f} that a large product reached"
    return None
