"""The measuring protocol: how candidates are timed against a baseline, the same on every device.

Check, prepare, warm up, sample in rounds, drop for a cause, check again, believe the physics. The reasons stand in
docs/decisions/0006-measuring.md. A round takes one sample of every candidate and two of the baseline; the second one is
the A/A comparison that gives the noise floor. The order is rotated by one from block to block, and the second
round of a block runs in the reverse of the first.
"""

from collections.abc import Callable, Sequence
from math import isfinite
from statistics import median

from lords_bench.errors import UsageError
from lords_bench.records.measurement import REGIMES, Measurement, Peaks, Regime
from lords_bench.records.status import Status
from lords_bench.stats.median import LEAST, paired_log_ratios
from lords_bench.stats.verdict import noise_floor_of, relative_half_width
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.ceiling import impossible
from lords_bench.timing.comparison import FULL, Comparison, Outcome, Policy
from lords_bench.timing.device import Border, CandidateError, Device, Sample, Session
from lords_bench.timing.failure import failure_of

# A sample whose clock fell below this share of the run's median was throttled.
SLOW_CLOCK = 0.75
MOST_DROPPED = 0.2
CLOCK_SETTLED = 0.01
CLOCK_WINDOW = 20
FIRST_REST_S = 0.05
REST_GROWTH = 1.5


def compare(
    device: Device,
    candidates: Sequence[Candidate],
    *,
    baseline: str,
    regime: Regime = "cold",
    policy: Policy = FULL,
    on_round: Callable[[int], None] | None = None,
) -> Comparison:
    """Time the candidates against one of them.

    Args:
        device: what to time on.
        candidates: what to time.
        baseline: name of the candidate that ratios are taken to.
        regime: state of the caches; see `records.measurement`.
        policy: `FULL`, `QUICK`, or your own.
        on_round: called after each round with the number of rounds; for a progress bar.

    Raises:
        UsageError: two candidates of one name, a baseline that is not among them, or an unknown regime.
    """
    names = [candidate.name for candidate in candidates]
    if len(set(names)) != len(names):
        raise UsageError(f"candidates {names} share a name; give each its own")
    if baseline not in names:
        raise UsageError(f"baseline {baseline!r} is not among the candidates {', '.join(names)}; add it")
    if regime not in REGIMES:
        raise UsageError(f"regime {regime!r} is unknown; known: {', '.join(REGIMES)}")
    failures: dict[str, tuple[Status, str]] = {}
    with device.open(regime) as session:
        ready: list[Candidate] = []
        launches: list[int] = []
        for candidate in candidates:
            try:
                _check(candidate)
                launches.append(session.prepare(candidate))
                ready.append(candidate)
            except CandidateError as error:
                failures[candidate.name] = (error.status, error.reason)
        run = _Run(device, session, ready, launches, baseline=baseline, regime=regime, policy=policy)
        return run.comparison(names, failures, on_round)


def _check(candidate: Candidate) -> None:
    """Raise what keeps the candidate from being timed."""
    try:
        wrong = candidate.check()
    # Whatever a candidate raises is its outcome, and the others go on.
    except Exception as error:
        raise failure_of(error) from error
    if wrong is not None:
        raise CandidateError(Status.INCORRECT, wrong)


class _Run:
    """One comparison under way: samples by seat (the ready candidates, then the baseline's second seat) and round."""

    def __init__(
        self,
        device: Device,
        session: Session,
        ready: Sequence[Candidate],
        launches: Sequence[int],
        *,
        baseline: str,
        regime: Regime,
        policy: Policy,
    ) -> None:
        self.device, self.session, self.ready, self.launches = device, session, ready, launches
        self.baseline, self.regime, self.policy = baseline, regime, policy
        names = [candidate.name for candidate in ready]
        self.base_seat = names.index(baseline) if baseline in names else None
        self.seats = list(range(len(ready))) + ([] if self.base_seat is None else [self.base_seat])
        self.samples: list[list[Sample]] = [[] for _ in self.seats]
        self.batch_causes: dict[int, str] = {}
        self.widths: dict[int, float] = {}
        self.notes: list[str] = []

    def comparison(
        self, names: Sequence[str], failures: dict[str, tuple[Status, str]], on_round: Callable[[int], None] | None
    ) -> Comparison:
        """Everything from warming up to the outcomes; `failures` are the candidates that are out already."""
        stopped = "failed"
        if self.ready:
            try:
                self._warm_up()
                stopped = self._sample(on_round)
            except CandidateError as error:
                reason = f"the device failed while sampling: {error.reason}"
                failures |= {candidate.name: (error.status, reason) for candidate in self.ready}
        found: dict[str, Measurement | tuple[Status, str]] = dict(failures)
        peaks = self.device.peaks
        for seat, candidate in enumerate(self.ready):
            if candidate.name not in failures:
                found[candidate.name] = self._result(seat, candidate, peaks)
        again = None
        base = found[self.baseline]
        if isinstance(base, Measurement):
            measured = self._measurement(len(self.seats) - 1)
            again = measured if isinstance(measured, Measurement) else None
        floor = None
        if isinstance(base, Measurement) and again is not None and _pairs(base, again) >= LEAST:
            floor = noise_floor_of(base.paired_ns, again.paired_ns)
        return Comparison(
            device=self.device.name,
            regime=self.regime,
            baseline=self.baseline,
            outcomes=tuple(_outcome(name, found[name]) for name in names),
            baseline_again=again,
            noise_floor=floor,
            stopped=stopped,
            peaks=peaks,
            notes=tuple(self.notes),
        )

    def order(self, index: int) -> list[int]:
        """Seats in the order of a round: rotated from block to block, reversed in the second round of a block."""
        turn = index // 2 % len(self.seats)
        rotated = [*range(turn, len(self.seats)), *range(turn)]
        return rotated[::-1] if index % 2 else rotated

    def _warm_up(self) -> None:
        policy, session = self.policy, self.session
        clocks: list[float | None] = []
        begin, turn = session.now_s(), 0
        while (spent := session.now_s() - begin) < policy.warm_up_limit_s and turn < policy.max_rounds:
            if spent >= policy.warm_up_s and _settled(clocks):
                return
            order = [self.seats[seat] for seat in self.order(turn)]
            clocks += [sample.clock_mhz for sample in session.warm_up(order, policy.warm_up_s / 5)]
            turn += 1
        self.notes.append(f"the clock still moved by more than {CLOCK_SETTLED:.0%} after warming up")

    def _sample(self, on_round: Callable[[int], None] | None) -> str:
        policy, session = self.policy, self.session
        begin, border, rest = session.now_s(), session.border(), 0.0
        batch_start = count = 0
        while True:
            order = self.order(count)
            samples = session.sample_round([self.seats[seat] for seat in order])
            for seat, sample in zip(order, samples, strict=True):
                self.samples[seat].append(sample)
            count += 1
            if on_round is not None:
                on_round(count)
            stopped = self._stop(count, session.now_s() - begin)
            if stopped or count - batch_start == policy.border_rounds:
                before, border = border, session.border()
                cause = self._cause(before, border)
                self.batch_causes |= dict.fromkeys(range(batch_start, count), cause) if cause else {}
                rest = (rest * REST_GROWTH or FIRST_REST_S) if cause else 0.0
                batch_start = count
                # The last batch may have turned out to be unusable.
                stopped = self._stop(count, session.now_s() - begin)
                if stopped:
                    return stopped
                if rest:
                    session.rest(rest)

    def _cause(self, before: Border, after: Border) -> str | None:
        if after.foreign:
            return f"another process computed on the device: {', '.join(after.foreign)}"
        if before.violation_ns is not None and after.violation_ns is not None:
            held = after.violation_ns - before.violation_ns
            if held > 0:
                return "heat or a board limit held the clock down"
        return None

    def _stop(self, count: int, spent_s: float) -> str | None:
        policy = self.policy
        if count < LEAST:
            return None
        if count >= policy.max_rounds:
            return "max-rounds"
        if spent_s >= policy.budget_s:
            return "budget"
        if count % 2 or count < policy.min_rounds:
            return None
        width = self._width()
        if width is None:
            return None
        self.widths[count] = width
        if width <= policy.half_width:
            return "precise"
        earlier = self.widths.get(count // 4 * 2)
        if earlier is not None and count >= 2 * policy.min_rounds and width > 0.9 * earlier:
            return "settled"
        return None

    def _width(self) -> float | None:
        """The widest half-width of all ratios to the baseline; None where one is still unknown."""
        causes = [self._causes(seat) for seat in range(len(self.seats))]
        kept = [
            [None if index in out else sample.ns for index, sample in enumerate(samples)]
            for samples, out in zip(self.samples, causes, strict=True)
        ]
        base = self.base_seat or 0
        if sum(value is not None for value in kept[base]) < self.policy.min_rounds * (1 - MOST_DROPPED):
            return None
        widths = [
            relative_half_width(ratios) if len(ratios := paired_log_ratios(times, kept[base])) else None
            for seat, times in enumerate(kept)
            if seat != base
        ]
        known = [width for width in widths if width is not None]
        return max(known, default=0.0) if len(known) == len(widths) else None

    def _causes(self, seat: int) -> dict[int, str]:
        """Round to cause for each sample of a seat that is not used."""
        clocks = [sample.clock_mhz for samples in self.samples for sample in samples if sample.clock_mhz is not None]
        slow = SLOW_CLOCK * median(clocks) if clocks else 0.0
        found = dict(self.batch_causes)
        for index, (time_ns, clock_mhz) in enumerate(self.samples[seat]):
            if not (isfinite(time_ns) and time_ns > 0):
                found[index] = f"the timer gave {time_ns:g} ns"
            elif clock_mhz is not None and clock_mhz < slow:
                found[index] = f"the clock fell below {SLOW_CLOCK:.0%} of the run's median"
        return dict(sorted(found.items()))

    def _measurement(self, seat: int) -> Measurement | tuple[Status, str]:
        samples, causes = self.samples[seat], self._causes(seat)
        if len(causes) > MOST_DROPPED * len(samples):
            commonest = max(causes.values(), key=list(causes.values()).count)
            return Status.INVALID, f"{len(causes)} of {len(samples)} samples dropped, most often because {commonest}"
        return Measurement(
            regime=self.regime,
            timer=self.device.timer,
            samples_ns=tuple(sample.ns for sample in samples),
            launches_per_sample=self.launches[self.seats[seat]],
            clock_mhz=tuple(sample.clock_mhz for sample in samples),
            dropped=tuple(causes.items()),
            energy_mj=None,
        )

    def _result(self, seat: int, candidate: Candidate, peaks: Peaks) -> Measurement | tuple[Status, str]:
        measured = self._measurement(seat)
        if not isinstance(measured, Measurement):
            return measured
        try:
            _check(candidate)
        except CandidateError as error:
            return error.status, f"after timing: {error.reason}"
        wrong = impossible(candidate, measured, peaks)
        return (Status.INVALID, wrong) if wrong else measured


def _settled(clocks: Sequence[float | None]) -> bool:
    """Whether the last clocks hardly differ; unknown clocks are taken to be settled."""
    last = [clock for clock in clocks[-CLOCK_WINDOW:] if clock is not None]
    if not last:
        return True
    return len(last) == CLOCK_WINDOW and max(last) - min(last) < CLOCK_SETTLED * median(last)


def _pairs(first: Measurement, second: Measurement) -> int:
    return len(set(first.kept_rounds) & set(second.kept_rounds))


def _outcome(name: str, found: Measurement | tuple[Status, str]) -> Outcome:
    if isinstance(found, Measurement):
        return Outcome(name=name, status=Status.OK, measurement=found, reason=None)
    return Outcome(name=name, status=found[0], measurement=None, reason=found[1])
