"""What a comparison is asked for and what it gives: `Policy`, `CandidateOutcome`, `Comparison`. Nouns only."""

from dataclasses import dataclass, field

from lords_bench.errors import UsageError
from lords_bench.options import NOT_NEGATIVE, POSITIVE, Whole
from lords_bench.records.measurement import Measurement, Peaks, Regime
from lords_bench.records.status import Status
from lords_bench.stats.median import LEAST
from lords_bench.stats.verdict import Judgement, Verdict, judge_measurements

# Of a microsecond each these would take seconds, of a second each a fortnight.
_MOST_ROUNDS = 10**6
_ROUNDS = Whole(least=LEAST, most=_MOST_ROUNDS)
_BORDER_ROUNDS = Whole(least=2, most=_MOST_ROUNDS)
_LAYOUTS = Whole(most=1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How long to look.

    Attributes:
        min_rounds: rounds before the interval may end the run.
        half_width: 95 % half-width of the median paired log-ratio that is narrow enough, of every candidate.
        budget_s: seconds of sampling after which the run ends with at least six rounds.
        warm_up_s: least time of warming up on the very work that is timed.
        warm_up_limit_s: where warming up ends even if the clock still moves.
        max_rounds: rounds after which the run ends in any case.
        border_rounds: rounds of one batch, between whose borders the device's counters are read.
        layouts: how often each candidate's buffers are laid out anew, as far as memory allows.
        energy: whether the energy of a launch is measured after the samples.
    """

    min_rounds: int = 30
    half_width: float = 0.005
    budget_s: float = 15.0
    warm_up_s: float = 0.5
    warm_up_limit_s: float = 3.0
    max_rounds: int = 1000
    border_rounds: int = 10
    layouts: int = 12
    energy: bool = True

    def __post_init__(self) -> None:
        for name in ("half_width", "budget_s"):
            POSITIVE.check(f"policy.{name}", getattr(self, name))
        for name in ("warm_up_s", "warm_up_limit_s"):
            NOT_NEGATIVE.check(f"policy.{name}", getattr(self, name))
        for name, limits in (("min_rounds", _ROUNDS), ("max_rounds", _ROUNDS), ("layouts", _LAYOUTS)):
            limits.check(f"policy.{name}", getattr(self, name))
        if self.min_rounds > self.max_rounds:
            raise UsageError(f"policy.min_rounds is {self.min_rounds}; give {LEAST} to max_rounds {self.max_rounds}")
        _BORDER_ROUNDS.check("policy.border_rounds", self.border_rounds)
        if self.border_rounds % 2:
            raise UsageError(f"policy.border_rounds is {self.border_rounds}; a batch is a whole number of round pairs")


FULL = Policy()
QUICK = Policy(min_rounds=12, half_width=0.01, budget_s=2.0, layouts=6, energy=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateOutcome:
    """How one candidate ended: a measurement exactly when the status is ok, else a reason of one line."""

    name: str
    status: Status
    measurement: Measurement | None
    reason: str | None

    def __post_init__(self) -> None:
        if (self.status is Status.OK) != (self.measurement is not None) or (self.status is Status.OK) != (
            self.reason is None
        ):
            raise UsageError(f"outcome of {self.name!r} is {self.status}; ok has a measurement, all others a reason")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Candidates that were timed in the same rounds.

    Attributes:
        outcomes: one per candidate, in the order given.
        baseline_again: the baseline's second samples, of the A/A comparison; None where the baseline has none.
        noise_floor: relative difference that the baseline showed against itself; None without a baseline.
        stopped: why sampling ended: `precise`, `settled` (more rounds no longer narrow the interval), `budget` or
            `max-rounds`; `failed` where there was nothing to sample.
        notes: what a reader should know about the device during the run, in words.
    """

    device: str
    regime: Regime
    baseline: str
    outcomes: tuple[CandidateOutcome, ...]
    baseline_again: Measurement | None
    noise_floor: float | None
    stopped: str
    peaks: Peaks = field(default_factory=Peaks)
    notes: tuple[str, ...] = ()

    def outcome(self, name: str) -> CandidateOutcome:
        """Of the candidate of that name.

        Raises:
            UsageError: no such candidate.
        """
        for outcome in self.outcomes:
            if outcome.name == name:
                return outcome
        raise UsageError(f"no candidate {name!r}; compared were {', '.join(o.name for o in self.outcomes)}")

    def judge(self, name: str, *, against: str | None = None) -> Judgement:
        """Verdict on a candidate against the baseline, or against any other candidate of the comparison."""
        subject, other = self.outcome(name), self.outcome(against or self.baseline)
        missing = next((o for o in (subject, other) if o.measurement is None), None)
        if missing is not None or self.noise_floor is None:
            reason = f"{missing.name}: {missing.reason}" if missing else "the baseline gave no noise floor"
            return Judgement(
                verdict=Verdict.INVALID,
                ratio=None,
                cycles=None,
                noise_floor=self.noise_floor or 0.0,
                pairs=0,
                reason=reason,
            )
        assert subject.measurement is not None
        assert other.measurement is not None
        return judge_measurements(subject.measurement, other.measurement, noise_floor=self.noise_floor)
