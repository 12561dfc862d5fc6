"""`TunedEntry`: one line of a tuned table, a kernel and its configuration that were proven on one GPU for one problem.

A line carries its own proof: the summaries of the choice and of the formula's default, measured in the same rounds, and
the paired speed-up with its interval. An entry that is slower than the default cannot be built, so none can be written
and none is believed when read.

Two roles share the noun. A key that names a kernel says which configuration serves that kernel; a key that names
`ROUTE` says which kernel serves the problem, which makes the switch points between kernels data as well.
"""

import math
from dataclasses import dataclass
from datetime import date
from typing import Literal

from lords_bench.errors import RecordError

# In the place of a kernel's name: the entry is about which kernel to take.
ROUTE = "route"

# Bucket b serves b/2 < M ≤ b; the last one everything above as well.
M_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

Setting = tuple[str, int | bool | str]


_LAST_PLACE = len(M_BUCKETS) - 1


def bucket_place(m: int) -> int:
    """Place in `M_BUCKETS` of the bucket of M ≥ 1 tokens: the next power of two, or the last."""
    return min(_LAST_PLACE, (m - 1).bit_length())


def m_bucket(m: int) -> int:
    """The bucket of M ≥ 1 tokens: the next power of two, at most 4096."""
    return M_BUCKETS[bucket_place(m)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What a kernel is asked to compute, apart from the machine.

    Attributes:
        m_bucket: one of `M_BUCKETS`.
        n, k: out and in features.
        bits: bits per code.
        rank: rank of the scale as kernels pad it (16, 32, 64 or 128); None for a block-wise scale.
        block: inputs per scale; None for a low-rank scale.
        zero_points: whether each block has a zero point besides its scale.
        x_dtype, scale_dtype: as torch names them, without the prefix: `bfloat16`.
        decoder: how codes become levels, a name of `prepared.DECODERS`.
    """

    m_bucket: int
    n: int
    k: int
    bits: int
    rank: int | None = None
    block: int | None = None
    zero_points: bool = False
    x_dtype: str
    scale_dtype: str
    decoder: str

    def __post_init__(self) -> None:
        if self.m_bucket not in M_BUCKETS:
            raise RecordError(f"m_bucket is {self.m_bucket}; it must be one of {', '.join(map(str, M_BUCKETS))}")
        for name in ("n", "k", "bits"):
            if getattr(self, name) < 1:
                raise RecordError(f"problem.{name} is {getattr(self, name)}; it must be at least 1")
        if (self.rank is None) == (self.block is None):
            raise RecordError(f"problem has rank {self.rank} and block {self.block}; exactly one of them must be given")
        if self.zero_points and self.block is None:
            raise RecordError("problem has zero points and no block; only block-wise scales have zero points")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a time depends on besides the kernel and the problem.

    Attributes:
        gpu: the device's name.
        capability: compute capability, major and minor.
        multiprocessors: of the device, or of the slice of it that is visible.
        driver: driver version; None where it cannot be found out.
        triton: version of Triton.
    """

    gpu: str
    capability: tuple[int, int]
    multiprocessors: int
    driver: str | None
    triton: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedKey:
    """What must agree for an entry to hold exactly.

    Attributes:
        kernel: name in the registry, or `ROUTE`.
        source_sha256: of the normalised source of the kernel and all it calls, for `ROUTE` of every kernel it may name.
    """

    kernel: str
    source_sha256: str
    problem: Problem
    machine: Machine


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A kernel and how it runs; `settings` are the fields of its configuration, () where it has none."""

    kernel: str
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Times of one call, in ns: number of samples, their median, and the 95 % interval of that median."""

    samples: int
    median_ns: float
    low_ns: float
    high_ns: float

    def __post_init__(self) -> None:
        times = (self.low_ns, self.median_ns, self.high_ns)
        if self.samples < 1 or not all(map(math.isfinite, times)) or not 0 < times[0] <= times[1] <= times[2]:
            raise RecordError(f"summary {times} ns of {self.samples} samples; expected 0 < low ≤ median ≤ high")


@dataclass(frozen=True, kw_only=True, slots=True)
class Speedup:
    """Time of the default divided by that of the choice, paired within rounds: median and its 95 % interval."""

    median: float
    low: float
    high: float

    def __post_init__(self) -> None:
        values = (self.low, self.median, self.high)
        if not all(map(math.isfinite, values)) or not 0 < self.low <= self.median <= self.high:
            raise RecordError(f"speed-up {values}; expected 0 < low ≤ median ≤ high")


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedEntry:
    """One proven choice.

    Attributes:
        key: what it holds for.
        choice: the kernel and configuration to run; for a key that names a kernel, that kernel.
        default: what the formula would run.
        measured, default_measured: of the choice and of the default, from the same rounds.
        speedup: of the choice over the default; None if and only if they are the same.
        regime: of the measurement.
        timer: what took the times, as the measuring protocol names it.
        measured_on: date, ISO 8601.
        commit: of the code that measured; None outside a checkout.
        run: identifier of the tuning run whose trials are the evidence; None where there is no such file.
    """

    key: TunedKey
    choice: Choice
    default: Choice
    measured: Summary
    default_measured: Summary
    speedup: Speedup | None
    regime: Literal["cold", "hot", "eager"]
    timer: str
    measured_on: str
    commit: str | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        kernels = {self.choice.kernel, self.default.kernel}
        if self.key.kernel != ROUTE and kernels != {self.key.kernel}:
            raise RecordError(
                f"an entry for {self.key.kernel!r} chooses {sorted(kernels)}; it must stay with its kernel"
            )
        if ROUTE in kernels:
            raise RecordError(f"an entry chooses {ROUTE!r}, which is no kernel; name the kernel")
        if (self.speedup is None) != (self.choice == self.default):
            raise RecordError("speed-up must be given if and only if the choice differs from the default")
        if self.speedup is not None and (
            self.speedup.low < 1 or self.measured.median_ns > self.default_measured.median_ns
        ):
            raise RecordError(
                f"{self.choice.kernel} is not proven to be no slower than the default {self.default.kernel}: "
                f"speed-up {self.speedup.median:.3f} ({self.speedup.low:.3f} … {self.speedup.high:.3f}), "
                f"{self.measured.median_ns:.0f} ns against {self.default_measured.median_ns:.0f} ns; keep the default"
            )
        try:
            date.fromisoformat(self.measured_on)
        except ValueError:
            raise RecordError(f"measured_on is {self.measured_on!r}; expected a date such as 2026-11-22") from None
