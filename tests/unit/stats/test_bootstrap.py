"""Intervals: right on cases known by hand, honest in coverage, and the same on every run."""

import numpy as np
import pytest

from lords_bench.errors import RecordError
from lords_bench.stats import Interval, mean_interval, ratio_interval


def test_the_estimate_is_the_ratio_of_sums_not_the_mean_of_ratios() -> None:
    assert ratio_interval([1.0, 9.0], [10.0, 30.0]).estimate == 0.25


def test_a_constant_sample_has_an_interval_of_no_width() -> None:
    interval = mean_interval([0.3] * 7)

    assert interval.low == pytest.approx(0.3)
    assert interval.high == pytest.approx(0.3)


def test_one_item_has_no_interval() -> None:
    assert mean_interval([2.0]) == Interval(estimate=2.0, low=None, high=None)


def test_one_document_has_no_interval_however_many_windows_it_has() -> None:
    assert mean_interval([1.0, 2.0, 3.0], clusters=[4, 4, 4]).low is None


def test_equal_samples_give_equal_intervals() -> None:
    values = list(np.random.RandomState(0).normal(size=40))

    assert mean_interval(values) == mean_interval(list(values))


def test_frozen_interval_of_a_fixed_sample() -> None:
    """A change of this value changes every committed report: it must be deliberate."""
    interval = mean_interval([float(value) for value in range(20)])

    assert interval.low == pytest.approx(6.75, abs=1e-12)
    assert interval.high == pytest.approx(12.2, abs=1e-12)


def test_the_interval_of_a_normal_mean_agrees_with_student_s() -> None:
    values = np.random.RandomState(1).normal(size=30)
    half_width = 2.045 * values.std(ddof=1) / np.sqrt(30)

    interval = mean_interval(list(values))

    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.1 * half_width)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.1 * half_width)


@pytest.mark.parametrize(("count", "least"), [(8, 0.89), (30, 0.915)])
def test_intervals_of_skewed_samples_cover_the_truth_nearly_as_often_as_they_say(count: int, least: float) -> None:
    """Lognormal values, as KL per window is; a plain percentile interval covers about 0.86 at 8 values."""
    stream = np.random.RandomState(2)
    trials = 400

    hits = 0
    for _ in range(trials):
        interval = mean_interval(list(np.exp(stream.normal(0, 0.5, count))))
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= np.exp(0.125) <= interval.high

    assert least <= hits / trials <= 0.98


def test_windows_of_one_document_count_as_one_draw() -> None:
    """Ten documents whose windows are copies of each other know no more than ten windows do."""
    values = list(np.random.RandomState(3).normal(size=10))
    copies = [value for value in values for _ in range(6)]
    documents = [number for number in range(10) for _ in range(6)]

    clustered = mean_interval(copies, clusters=documents)

    single = mean_interval(values)
    assert clustered.low == pytest.approx(single.low)
    assert clustered.high == pytest.approx(single.high)


def test_cluster_numbers_need_not_be_consecutive() -> None:
    values = [1.0, 2.0, 4.0]

    assert mean_interval(values, clusters=[70, 3, 900]).high == pytest.approx(mean_interval([2.0, 1.0, 4.0]).high)


@pytest.mark.parametrize(
    ("numerators", "denominators", "clusters"),
    [([], [], []), ([1.0], [1.0, 2.0], []), ([1.0, 2.0], [1.0, 2.0], [0])],
)
def test_lengths_that_disagree_are_refused(
    numerators: list[float], denominators: list[float], clusters: list[int]
) -> None:
    with pytest.raises(RecordError, match="equally many values"):
        ratio_interval(numerators, denominators, clusters=clusters)


def test_denominators_that_are_not_positive_are_refused() -> None:
    with pytest.raises(RecordError, match="positive denominators, the least is 0"):
        ratio_interval([1.0, 2.0], [1.0, 0.0])


def test_an_interval_with_one_end_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="give both or neither"):
        Interval(estimate=1.0, low=0.5, high=None)
