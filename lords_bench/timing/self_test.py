"""How often a comparison would be wrong: the protocol on the fake device, beside what is commonly done.

The common way measures the baseline to the end, then the subject, and compares two means. It is given the same device,
the same warm-up and as many samples as the protocol took.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy import stats

from lords_bench.stats.verdict import Verdict
from lords_bench.timing.comparison import FULL, Policy
from lords_bench.timing.fake import NOISY, QUIET, FakeDevice, FakeNoise, fake_candidate
from lords_bench.timing.protocol import compare

TRUTH_NS = 20_000.0

# What disturbs, one thing at a time, then all at once.
CONDITIONS: Mapping[str, FakeNoise] = MappingProxyType(
    {
        "quiet": QUIET,
        "drift": FakeNoise(jitter=NOISY.jitter, drift=NOISY.drift, warm_up=NOISY.warm_up),
        "throttling": FakeNoise(jitter=NOISY.jitter, throttle_rate=NOISY.throttle_rate),
        "spikes": FakeNoise(jitter=NOISY.jitter, spike_rate=NOISY.spike_rate, spike_size=NOISY.spike_size),
        "coarse clocks": FakeNoise(
            jitter=NOISY.jitter, timer_step_ns=NOISY.timer_step_ns, clock_step_mhz=NOISY.clock_step_mhz
        ),
        "place in the round": FakeNoise(jitter=NOISY.jitter, second_place=NOISY.second_place),
        "layouts": FakeNoise(jitter=NOISY.jitter, layout=0.005),
        "every 2nd sample": FakeNoise(jitter=NOISY.jitter, period=2, period_size=0.03),
        "every 3rd sample": FakeNoise(jitter=NOISY.jitter, period=3, period_size=0.03),
        "every 4th sample": FakeNoise(jitter=NOISY.jitter, period=4, period_size=0.03),
        "every 9th sample": FakeNoise(jitter=QUIET.jitter, period=9, period_size=0.05),
        "bursts": FakeNoise(jitter=NOISY.jitter, burst_rate=0.01, burst_size=0.2),
        "two clocks": FakeNoise(jitter=NOISY.jitter, second_state=0.9, clock_error=NOISY.clock_error),
        "all at once": NOISY,
    }
)

# Ways to call a difference of two means real.
MEANS_APART = 0.01
WELCH_LEVEL = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One run of the experiment.

    Attributes:
        verdict: of the protocol.
        covered: whether the protocol's 95 % interval holds the truth; None where there is no interval.
        rounds: that the protocol took.
        means_apart: whether the two means of the common way differ by more than `MEANS_APART`.
        welch: whether Welch's t-test calls them different at `WELCH_LEVEL`.
    """

    verdict: Verdict
    covered: bool | None
    rounds: int
    means_apart: bool
    welch: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Shares of runs in which a difference was claimed, and how often the interval held the truth."""

    runs: int
    protocol: float
    means_apart: float
    welch: float
    covered: float
    median_rounds: float
    verdicts: Mapping[Verdict, int]


def trials(noise: FakeNoise, *, slowdown: float, runs: int, policy: Policy = FULL) -> Iterator[Trial]:
    """Runs with seeds 0 … `runs` − 1 of a subject that takes 1 + `slowdown` times as long as its baseline."""
    truth = {"baseline": TRUTH_NS, "subject": TRUTH_NS * (1 + slowdown)}
    candidates = [fake_candidate(name) for name in truth]
    for seed in range(runs):
        found = compare(
            FakeDevice(truth_ns=truth, noise=noise, seed=seed), candidates, baseline="baseline", policy=policy
        )
        judgement = found.judge("subject")
        measurement = found.outcome("baseline").measurement
        rounds = policy.min_rounds if measurement is None else len(measurement.samples_ns)
        covered = None
        if judgement.ratio is not None:
            assert judgement.ratio.low is not None
            assert judgement.ratio.high is not None
            covered = judgement.ratio.low <= 1 + slowdown <= judgement.ratio.high
        first, second = _one_after_the_other(FakeDevice(truth_ns=truth, noise=noise, seed=seed), rounds, policy)
        yield Trial(
            verdict=judgement.verdict,
            covered=covered,
            rounds=rounds,
            means_apart=bool(abs(np.mean(second) / np.mean(first) - 1) > MEANS_APART),
            welch=bool(stats.ttest_ind(first, second, equal_var=False).pvalue < WELCH_LEVEL),
        )


def rates(noise: FakeNoise, *, slowdown: float, runs: int, policy: Policy = FULL) -> Rates:
    """Of `trials`, how many claimed a difference."""
    found = list(trials(noise, slowdown=slowdown, runs=runs, policy=policy))
    known = [trial.covered for trial in found if trial.covered is not None]
    claimed = (Verdict.FASTER, Verdict.SLOWER) if slowdown == 0 else (Verdict.SLOWER,)
    return Rates(
        runs=runs,
        protocol=float(np.mean([trial.verdict in claimed for trial in found])),
        means_apart=float(np.mean([trial.means_apart for trial in found])),
        welch=float(np.mean([trial.welch for trial in found])),
        covered=float(np.mean(known)) if known else 0.0,
        median_rounds=float(np.median([trial.rounds for trial in found])),
        verdicts=Counter(trial.verdict for trial in found),
    )


def _one_after_the_other(device: FakeDevice, samples: int, policy: Policy) -> tuple[list[float], list[float]]:
    with device.open("cold") as session:
        for name in device.truth_ns:
            session.prepare(fake_candidate(name))
        session.warm_up([0, 1], policy.warm_up_s)
        first, second = ([session.sample_round([index])[0].ns for _ in range(samples)] for index in (0, 1))
        return first, second
