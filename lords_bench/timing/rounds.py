"""`Rounds`: the samples of a comparison under way, what speaks against some of them, and how wide the ratios are."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lords_bench.stats.median import paired_log_ratios
from lords_bench.stats.verdict import relative_half_width
from lords_bench.timing.device import Sample

# A sample whose clock fell below this share of the run's median was throttled.
SLOW_CLOCK = 0.75

Floats = npt.NDArray[np.float64]


class Rounds:
    """Samples by round and seat. A seat is a place in every round: one of each candidate, two of the baseline.

    Args:
        seats: how many samples a round has.
    """

    def __init__(self, seats: int) -> None:
        self._seats = seats
        self._times: list[list[float]] = []
        self._clocks: list[list[float]] = []
        self._batch_causes: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._times)

    def order(self, index: int) -> list[int]:
        """Seats in the order of a round: rotated from block to block, reversed in the second round of a block."""
        turn = index // 2 % self._seats
        rotated = [*range(turn, self._seats), *range(turn)]
        return rotated[::-1] if index % 2 else rotated

    def add(self, order: Sequence[int], samples: Sequence[Sample]) -> None:
        """One round, its samples in the order they were taken in."""
        times, clocks = [np.nan] * self._seats, [np.nan] * self._seats
        for seat, sample in zip(order, samples, strict=True):
            times[seat] = sample.ns
            clocks[seat] = np.nan if sample.clock_mhz is None else sample.clock_mhz
        self._times.append(times)
        self._clocks.append(clocks)

    def condemn(self, first: int, last: int, cause: str) -> None:
        """Let no sample of the rounds `first` … `last` − 1 be used."""
        self._batch_causes |= dict.fromkeys(range(first, last), cause)

    def kept(self) -> Floats:
        """(rounds, seats) times in ns, NaN where the sample is not used."""
        times = self._array(self._times)
        slow, wrong = self._flags(times)
        kept = np.where(slow | wrong, np.nan, times)
        kept[list(self._batch_causes)] = np.nan
        return kept

    def causes(self, seat: int) -> dict[int, str]:
        """Round to cause, for each sample of a seat that is not used, in round order."""
        slow, wrong = self._flags(self._array(self._times))
        found: dict[int, str] = {}
        for index in np.flatnonzero(slow[:, seat]).tolist():
            found[index] = f"the clock fell below {SLOW_CLOCK:.0%} of the run's median"
        for index in np.flatnonzero(wrong[:, seat]).tolist():
            found[index] = f"the timer gave {self._times[index][seat]:g} ns"
        return dict(sorted((found | self._batch_causes).items()))

    def commonest_cause(self, seat: int) -> str:
        """The cause that most samples of a seat were dropped for."""
        return Counter(self.causes(seat).values()).most_common(1)[0][0]

    def samples_ns(self, seat: int) -> tuple[float, ...]:
        """Every sample of a seat as the timer gave it."""
        return tuple(row[seat] for row in self._times)

    def clock_mhz(self, seat: int) -> tuple[float | None, ...]:
        """Clock of every sample of a seat."""
        return tuple(None if np.isnan(row[seat]) else row[seat] for row in self._clocks)

    def half_width(self, base: int, *, least: float) -> float | None:
        """The widest 95 % half-width of the log-ratios of any seat to the seat `base`.

        None where fewer than `least` rounds are kept, or an interval is still unknown.
        """
        kept = self.kept()
        if np.isfinite(kept[:, base]).sum() < least:
            return None
        widths = [
            relative_half_width(paired_log_ratios(kept[:, seat], kept[:, base]))
            for seat in range(self._seats)
            if seat != base
        ]
        known = [width for width in widths if width is not None]
        return max(known, default=0.0) if len(known) == len(widths) else None

    def _flags(self, times: Floats) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which samples ran at too slow a clock, and which are no times at all."""
        clocks = self._array(self._clocks)
        known = clocks[np.isfinite(clocks)]
        limit = SLOW_CLOCK * float(np.median(known)) if len(known) else 0.0
        return clocks < limit, ~(np.isfinite(times) & (times > 0))

    def _array(self, rows: list[list[float]]) -> Floats:
        return np.array(rows, dtype=np.float64).reshape(len(rows), self._seats)
