"""`Rounds`: the samples of a comparison under way, what speaks against some of them, and how wide the ratios are."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lords_bench.stats.layouts import paired_ratio, shared_layouts
from lords_bench.timing.device import Sample

# A sample whose clock fell below this share of the run's median was throttled.
SLOW_CLOCK = 0.75

Floats = npt.NDArray[np.float64]


class Rounds:
    """Samples by round and seat: one of each candidate in every round, two of the baseline.

    Two rounds are a block. The order of its first is drawn at random, whatever the others were, and its second is the
    reverse. So what depends linearly on place or time cancels, and of everything else that has a rhythm of its own no
    candidate gets more than another in any way that more blocks would not even out: for a given interference, and no
    other difference, the ratio of a block and its inverse are equally likely, and blocks are independent.

    Args:
        layouts: of each seat, the layouts that it goes through, one per block.
        seed: of the order.
    """

    def __init__(self, layouts: Sequence[Sequence[int]], *, seed: int) -> None:
        self._seats = len(layouts)
        self._seat_layouts = layouts
        # A stream of its own: a fake device of the same seed must not draw the same numbers.
        self._generator = np.random.RandomState([seed, 1])
        self._orders: list[list[int]] = []
        self._places: list[list[int]] = []
        self._times: list[list[float]] = []
        self._clocks: list[list[float]] = []
        self._batch_causes: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._times)

    def order(self, index: int) -> list[int]:
        """Seats in the order of a round; the second round of a block reverses the first."""
        while len(self._orders) <= index // 2:
            self._orders.append(self._generator.permutation(self._seats).tolist())
        drawn = self._orders[index // 2]
        return drawn[::-1] if index % 2 else list(drawn)

    def turn(self, index: int) -> int:
        """Number of the layout, among those of a seat, that a round runs on; seats with fewer begin again earlier."""
        return index // 2

    def layouts(self, seat: int) -> tuple[int, ...]:
        own = self._seat_layouts[seat]
        return tuple(own[self.turn(index) % len(own)] for index in range(len(self)))

    def places(self, seat: int) -> tuple[int, ...]:
        return tuple(places[seat] for places in self._places)

    def add(self, order: Sequence[int], samples: Sequence[Sample]) -> None:
        """One round, its samples in the order they were taken in."""
        times, clocks = [np.nan] * self._seats, [np.nan] * self._seats
        places = [0] * self._seats
        for place, (seat, sample) in enumerate(zip(order, samples, strict=True)):
            places[seat] = place
            times[seat] = sample.ns
            clocks[seat] = np.nan if sample.clock_mhz is None else sample.clock_mhz
        self._places.append(places)
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
        return tuple(None if np.isnan(row[seat]) else row[seat] for row in self._clocks)

    def half_width(self, base: int, *, least: float) -> float | None:
        """The widest 95 % half-width of the log-ratios of any seat to the seat `base`.

        None where fewer than `least` rounds are kept, or an interval is still unknown.
        """
        kept = self.kept()
        if np.isfinite(kept[:, base]).sum() < least:
            return None
        widths = []
        for seat in range(self._seats):
            if seat == base:
                continue
            layouts = shared_layouts(self.layouts(seat), self.layouts(base))
            found = paired_ratio(kept[:, seat], kept[:, base], layouts)
            if found is None or found.interval.low is None or found.interval.high is None:
                return None
            widths.append((found.interval.high - found.interval.low) / 2)
        return max(widths, default=0.0)

    def _flags(self, times: Floats) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which samples ran at too slow a clock, and which are no times at all."""
        clocks = self._array(self._clocks)
        known = clocks[np.isfinite(clocks)]
        limit = SLOW_CLOCK * float(np.median(known)) if len(known) else 0.0
        return clocks < limit, ~(np.isfinite(times) & (times > 0))

    def _array(self, rows: list[list[float]]) -> Floats:
        return np.array(rows, dtype=np.float64).reshape(len(rows), self._seats)
