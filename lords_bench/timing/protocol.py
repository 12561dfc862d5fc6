"""The measuring protocol: how candidates are timed against a baseline, the same on every device.

Check, prepare, warm up, sample in rounds, drop for a cause, check again, believe the physics. The reasons stand in
docs/decisions/0006-measuring.md and 0014-layouts.md. A round takes one sample of every candidate and two of the
baseline; the second one, on buffers of its own, is the A/A comparison that gives the noise floor. The order of a block
of two rounds is drawn at random, its second round is the reverse of the first, and the next block runs on the next
layout of everybody's buffers.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from lords_bench.errors import UsageError
from lords_bench.records.measurement import REGIMES, Measurement, Peaks, Regime
from lords_bench.records.status import Status
from lords_bench.stats.verdict import measured_floor
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.ceiling import impossible
from lords_bench.timing.comparison import FULL, CandidateOutcome, Comparison, Policy
from lords_bench.timing.device import CandidateError, Device, Session
from lords_bench.timing.failure import failure_of
from lords_bench.timing.rounds import Rounds
from lords_bench.timing.seats import Seat, take_seats
from lords_bench.timing.stopping import FINAL, StoppingRule, cause_between

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
        right: list[Candidate] = []
        for candidate in candidates:
            try:
                check(candidate)
                right.append(candidate)
            except CandidateError as error:
                failures[candidate.name] = (error.status, error.reason)
        seating = take_seats(session, right, baseline=baseline, layouts=policy.layouts)
        run = _Run(device, session, seating.seats, baseline=baseline, regime=regime, policy=policy)
        run.notes += seating.notes
        return run.comparison(names, failures | seating.failures, on_round)


def check(candidate: Candidate) -> None:
    """Raise what keeps the candidate from being timed."""
    try:
        wrong = candidate.check()
    # Whatever a candidate raises is its outcome, and the others go on.
    except Exception as error:
        raise failure_of(error) from error
    if wrong is not None:
        raise CandidateError(Status.INCORRECT, wrong)


class _Run:
    """One comparison under way. Its seats are those of the candidates and, last, the baseline's second one."""

    def __init__(
        self,
        device: Device,
        session: Session,
        seats: Sequence[Seat],
        *,
        baseline: str,
        regime: Regime,
        policy: Policy,
    ) -> None:
        self.device, self.session, self.seats = device, session, seats
        self.baseline, self.regime, self.policy = baseline, regime, policy
        names = [seat.candidate.name for seat in seats]
        self.base_seat = names.index(baseline) if baseline in names else None
        seed = secrets.randbits(32) if device.order_seed is None else device.order_seed
        self.rounds = Rounds([seat.layouts for seat in seats], seed=seed)
        self.notes = list(device.notes)

    def comparison(
        self, names: Sequence[str], failures: dict[str, tuple[Status, str]], on_round: Callable[[int], None] | None
    ) -> Comparison:
        """Everything from warming up to the outcomes; `failures` are the candidates that are out already."""
        found: dict[str, Measurement | tuple[Status, str]] = dict(failures)
        stopped, peaks = "failed", self.device.peaks
        if self.seats:
            # The baseline's second seat is nobody's result.
            own = list(enumerate(self.seats if self.base_seat is None else self.seats[:-1]))
            try:
                self._warm_up()
                stopped = self._sample(on_round)
                for number, seat in own:
                    found[seat.candidate.name] = self._result(number, seat.candidate, peaks)
            except CandidateError as error:
                reason = f"the device failed while sampling: {error.reason}"
                found |= {seat.candidate.name: (error.status, reason) for _, seat in own}
        base, again, floor = found[self.baseline], None, None
        if isinstance(base, Measurement):
            second = self._measurement(len(self.seats) - 1)
            floor = measured_floor(base, second) if isinstance(second, Measurement) else None
            if isinstance(second, Measurement) and floor is not None:
                again = second
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

    def _warm_up(self) -> None:
        policy, session = self.policy, self.session
        clocks: list[float | None] = []
        begin, turn = session.now_s(), 0
        while (spent := session.now_s() - begin) < policy.warm_up_limit_s and turn < policy.max_rounds:
            if spent >= policy.warm_up_s and _settled(clocks):
                return
            order = self._prepared(turn, self.rounds.order(turn))
            clocks += [sample.clock_mhz for sample in session.warm_up(order, policy.warm_up_s / 5)]
            turn += 1
        self.notes.append(f"the clock still moved by {CLOCK_SETTLED:.0%} or more after warming up")

    def _sample(self, on_round: Callable[[int], None] | None) -> str:
        """Sample until a rule says stop; which one."""
        policy, session, rounds = self.policy, self.session, self.rounds
        rule, begin, border, rest = StoppingRule(policy), session.now_s(), session.border(), 0.0
        batch_start = 0
        while True:
            order = rounds.order(len(rounds))
            rounds.add(order, session.sample_round(self._prepared(len(rounds), order)))
            if on_round is not None:
                on_round(len(rounds))
            enough = rule.reached(len(rounds), session.now_s() - begin, self._half_width)
            if enough or len(rounds) - batch_start == policy.border_rounds:
                before, border = border, session.border()
                cause = cause_between(before, border)
                if cause:
                    rounds.condemn(batch_start, len(rounds), cause)
                    rest = rest * REST_GROWTH or FIRST_REST_S
                if enough and (not cause or enough in FINAL):
                    return enough
                batch_start = len(rounds)
                if cause:
                    session.rest(rest)
                    border = session.border()

    def _prepared(self, index: int, order: Sequence[int]) -> list[int]:
        """What the session calls the seats of a round, each on the layout whose turn it is."""
        turn = self.rounds.turn(index)
        return [self.seats[seat].prepared[turn % len(self.seats[seat].prepared)] for seat in order]

    def _half_width(self) -> float | None:
        return self.rounds.half_width(self.base_seat or 0, least=(1 - MOST_DROPPED) * self.policy.min_rounds)

    def _measurement(self, seat: int) -> Measurement | tuple[Status, str]:
        causes, taken = self.rounds.causes(seat), len(self.rounds)
        if len(causes) > MOST_DROPPED * taken:
            cause = self.rounds.commonest_cause(seat)
            return Status.INVALID, f"{len(causes)} of {taken} samples dropped, most often because {cause}"
        return Measurement(
            regime=self.regime,
            timer=self.device.timer,
            samples_ns=self.rounds.samples_ns(seat),
            launches_per_sample=self.seats[seat].launches,
            clock_mhz=self.rounds.clock_mhz(seat),
            dropped=tuple(causes.items()),
            layouts=self.rounds.layouts(seat),
            places=self.rounds.places(seat),
        )

    def _result(self, seat: int, candidate: Candidate, peaks: Peaks) -> Measurement | tuple[Status, str]:
        measured = self._measurement(seat)
        if not isinstance(measured, Measurement):
            return measured
        try:
            check(candidate)
        except CandidateError as error:
            return error.status, f"after timing: {error.reason}"
        wrong = impossible(candidate, measured, peaks)
        if wrong:
            return Status.INVALID, wrong
        if not self.policy.energy:
            return measured
        return replace(measured, energy_mj=self.session.energy_mj(self.seats[seat].prepared[0]))


def _settled(clocks: Sequence[float | None]) -> bool:
    """Whether the last clocks hardly differ; unknown clocks are taken to be settled."""
    last = [clock for clock in clocks[-CLOCK_WINDOW:] if clock is not None]
    if not last:
        return True
    return len(last) == CLOCK_WINDOW and max(last) - min(last) < CLOCK_SETTLED * median(last)


def _outcome(name: str, found: Measurement | tuple[Status, str]) -> CandidateOutcome:
    if isinstance(found, Measurement):
        return CandidateOutcome(name=name, status=Status.OK, measurement=found, reason=None)
    return CandidateOutcome(name=name, status=found[0], measurement=None, reason=found[1])
