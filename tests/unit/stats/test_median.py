"""Intervals of a median without assumptions, and ratios free of the order within a round."""

import numpy as np
import pytest
from scipy import stats

from lords_bench.stats.median import LEAST, median_interval, order_index, paired_log_ratios


@pytest.mark.parametrize("count", [6, 7, 15, 30, 100, 999])
def test_the_order_statistics_are_the_tightest_that_reach_the_level(count: int) -> None:
    index = order_index(count, 0.95)

    assert index is not None
    assert 1 - 2 * stats.binom.cdf(index - 1, count, 0.5) >= 0.95
    assert 1 - 2 * stats.binom.cdf(index, count, 0.5) < 0.95


def test_six_values_are_the_least_that_have_an_interval() -> None:
    assert median_interval(range(LEAST)).low == 0.0
    assert median_interval(range(LEAST - 1)).low is None


@pytest.mark.parametrize("draw", ["normal", "exponential", "cauchy"])
def test_the_interval_holds_the_median_of_any_distribution(draw: str) -> None:
    generator = np.random.RandomState(0)
    samples = getattr(generator, f"standard_{draw}")((2000, 15))
    truth = np.log(2) if draw == "exponential" else 0.0

    held = [
        interval.low <= truth <= interval.high
        for sample in samples
        if (interval := median_interval(sample)).low is not None and interval.high is not None
    ]

    assert len(held) == 2000
    assert np.mean(held) == pytest.approx(0.965, abs=0.012)  # the level that 15 values can reach


def test_a_slower_second_place_cancels_in_a_block_of_two_orders() -> None:
    subject = [100.0, 103.0] * 8
    baseline = [103.0, 100.0] * 8

    assert paired_log_ratios(subject, baseline) == pytest.approx(np.zeros(8))


def test_a_drift_that_is_linear_over_a_block_cancels() -> None:
    # Order ab, then ba: the four samples of a block at drift 0, 1, 2, 3.
    subject = [np.exp(0.01 * (4 * block + place)) for block in range(8) for place in (0, 3)]
    baseline = [np.exp(0.01 * (4 * block + place)) for block in range(8) for place in (1, 2)]

    assert paired_log_ratios(subject, baseline) == pytest.approx(np.zeros(8))


def test_a_block_with_a_dropped_sample_is_left_out() -> None:
    subject: list[float | None] = [2.0] * 16
    subject[3] = None

    assert len(paired_log_ratios(subject, [1.0] * 16)) == 7


def test_few_rounds_are_taken_one_by_one() -> None:
    assert len(paired_log_ratios([2.0] * 10, [1.0] * 10)) == 10


def test_rounds_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="6 rounds against 7"):
        paired_log_ratios([1.0] * 6, [1.0] * 7)
