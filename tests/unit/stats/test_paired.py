"""Paired differences: pairing sees what separate intervals cannot, and equals are not told apart."""

import numpy as np
import pytest
from scipy.stats import binomtest

from lords_bench.errors import RecordError
from lords_bench.stats import (
    Interval,
    PairedDifference,
    PairedVerdict,
    mean_interval,
    paired_mean_difference,
    paired_ratio_difference,
    paired_share_difference,
)


def _difference(low: float | None, high: float | None, *, lower_is_better: bool = True) -> PairedDifference:
    interval = Interval(estimate=0.0 if low is None or high is None else (low + high) / 2, low=low, high=high)
    return PairedDifference(interval=interval, baseline=2.0, lower_is_better=lower_is_better)


@pytest.mark.parametrize(
    ("low", "high", "lower_is_better", "outcome"),
    [
        (-2.0, -1.0, True, PairedVerdict.BETTER),
        (-2.0, -1.0, False, PairedVerdict.WORSE),
        (1.0, 2.0, True, PairedVerdict.WORSE),
        (1.0, 2.0, False, PairedVerdict.BETTER),
        (-1.0, 2.0, True, PairedVerdict.UNRESOLVED),
        (0.0, 2.0, True, PairedVerdict.UNRESOLVED),
        (-2.0, 0.0, True, PairedVerdict.UNRESOLVED),
        (None, None, True, PairedVerdict.UNRESOLVED),
    ],
)
def test_outcome_needs_an_interval_without_zero(
    low: float | None, high: float | None, lower_is_better: bool, outcome: PairedVerdict
) -> None:
    assert _difference(low, high, lower_is_better=lower_is_better).outcome is outcome


def test_relative_difference_is_a_share_of_the_baseline() -> None:
    assert _difference(-1.0, -0.5).relative == Interval(estimate=-0.375, low=-0.5, high=-0.25)


def test_relative_difference_to_zero_is_unknown() -> None:
    interval = Interval(estimate=1.0, low=0.5, high=1.5)

    assert PairedDifference(interval=interval, baseline=0.0, lower_is_better=True).relative is None


def test_pairing_resolves_a_difference_that_separate_intervals_hide() -> None:
    stream = np.random.RandomState(0)
    difficulty = np.exp(stream.normal(0, 1, 50))
    baseline = difficulty * np.exp(stream.normal(0, 0.02, 50))
    subject = 0.95 * difficulty * np.exp(stream.normal(0, 0.02, 50))

    paired = paired_mean_difference(list(subject), list(baseline), lower_is_better=True)

    first, second = mean_interval(list(subject)), mean_interval(list(baseline))
    assert first.high is not None
    assert second.low is not None
    assert first.high > second.low
    assert paired.outcome is PairedVerdict.BETTER


def test_equals_are_called_different_about_as_often_as_the_level_says() -> None:
    stream = np.random.RandomState(1)
    trials = 300

    called = 0
    for _ in range(trials):
        tokens = stream.randint(200, 500, 25)
        difficulty = np.exp(stream.normal(0, 0.5, 25)) * tokens
        first = difficulty * np.exp(stream.normal(0, 0.1, 25))
        second = difficulty * np.exp(stream.normal(0, 0.1, 25))
        paired = paired_ratio_difference(list(first), list(second), [float(t) for t in tokens], lower_is_better=True)
        called += paired.outcome is not PairedVerdict.UNRESOLVED

    assert called / trials <= 0.08


def test_different_numbers_of_items_are_refused() -> None:
    with pytest.raises(RecordError, match="the same items: 2 values against 3"):
        paired_mean_difference([1.0, 2.0], [1.0, 2.0, 3.0], lower_is_better=True)


@pytest.mark.parametrize(("won", "lost"), [(3, 0), (4, 0), (5, 0), (6, 0), (8, 0), (9, 2), (14, 4), (20, 12), (24, 9)])
def test_shares_are_resolved_where_the_exact_test_of_mcnemar_resolves_them(won: int, lost: int) -> None:
    same = 300 - won - lost
    subject = [True] * won + [False] * lost + [True] * same
    baseline = [False] * won + [True] * lost + [True] * same

    paired = paired_share_difference(subject, baseline, lower_is_better=False)

    assert paired.interval.estimate == pytest.approx((won - lost) / 300)
    assert (paired.outcome is PairedVerdict.BETTER) == (binomtest(won, won + lost).pvalue < 0.05)


def test_shares_that_do_not_differ_at_all_are_not_resolved() -> None:
    answers = [True, False] * 50

    assert paired_share_difference(answers, answers, lower_is_better=False).outcome is PairedVerdict.UNRESOLVED


def test_shares_keep_their_documents_together() -> None:
    """Twelve wins in one document are one piece of evidence, twelve in twelve documents are twelve."""
    subject = [True] * 60
    baseline = [False] * 12 + [True] * 48
    scattered = [*range(12), *(number % 12 for number in range(48))]
    together = [0] * 12 + [1 + number % 11 for number in range(48)]

    assert (
        paired_share_difference(subject, baseline, clusters=scattered, lower_is_better=False).outcome
        is PairedVerdict.BETTER
    )
    assert (
        paired_share_difference(subject, baseline, clusters=together, lower_is_better=False).outcome
        is PairedVerdict.UNRESOLVED
    )
