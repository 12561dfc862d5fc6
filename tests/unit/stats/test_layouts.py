"""Ratios of candidates on several layouts of their buffers: what the interval rests on, and how often it holds."""

import numpy as np
import pytest
from scipy import stats

from lords_bench.errors import RecordError
from lords_bench.stats.layouts import (
    UNSEEN_LAYOUT,
    centre,
    paired_ratio,
    shared_layouts,
    student_quantile,
)
from lords_bench.stats.median import median_interval, paired_log_ratios
from lords_bench.stats.verdict import Verdict, judge, noise_floor_of

LAYOUTS = tuple(layout for layout in range(8) for _ in range(2)) * 3


def rounds(generator: np.random.RandomState, *, offset: float, jitter: float = 0.002) -> list[float]:
    """Times of one candidate whose layouts differ by `offset`, standard deviations of logarithms."""
    offsets = offset * generator.standard_normal(8)
    return [float(np.exp(offsets[layout] + jitter * generator.standard_normal())) for layout in LAYOUTS]


@pytest.mark.parametrize("freedom", range(1, 25))
def test_the_quantiles_are_students(freedom: int) -> None:
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-6)


def test_above_the_table_the_quantile_is_rather_too_large() -> None:
    assert stats.t.ppf(0.975, 100) < student_quantile(100) < 1.05 * stats.t.ppf(0.975, 100)


def test_one_spike_of_four_hardly_moves_the_centre() -> None:
    assert centre([0.01, 0.0, 0.02, 5.0]) == pytest.approx(0.0175)
    assert centre([3.0]) == 3.0


@pytest.mark.parametrize("offset", [0.0, 0.005])
def test_the_interval_holds_the_truth_whatever_stays_with_a_layout(offset: float) -> None:
    generator, held = np.random.RandomState(0), 0
    for _ in range(600):
        found = paired_ratio(rounds(generator, offset=offset), rounds(generator, offset=offset), LAYOUTS)
        assert found is not None
        assert found.interval.low is not None
        assert found.interval.high is not None
        held += found.interval.low <= 0 <= found.interval.high

    assert held / 600 >= 0.93


def test_blocks_taken_for_independent_would_not_hold_it() -> None:
    generator, held = np.random.RandomState(0), 0
    for _ in range(200):
        subject, baseline = (rounds(generator, offset=0.005) * 4 for _ in range(2))
        found = median_interval(paired_log_ratios(subject, baseline))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high

    assert held / 200 < 0.8


def test_more_rounds_on_the_same_layouts_do_not_narrow_the_interval() -> None:
    generator = np.random.RandomState(1)
    subject, baseline = (rounds(generator, offset=0.02, jitter=1e-6) for _ in range(2))

    once, ten_times = (paired_ratio(subject * n, baseline * n, LAYOUTS * n) for n in (1, 10))

    assert once is not None
    assert ten_times is not None
    assert once.values == ten_times.values == 8
    assert once.interval.low == pytest.approx(ten_times.interval.low, abs=1e-5)


def test_layouts_that_are_not_known_or_are_one_leave_the_blocks() -> None:
    generator = np.random.RandomState(2)
    subject, baseline = (rounds(generator, offset=0.0) for _ in range(2))
    expected = median_interval(paired_log_ratios(subject, baseline))

    unknown, single = (paired_ratio(subject, baseline, layouts) for layouts in ((), (3,) * len(subject)))

    assert unknown is not None
    assert single is not None
    assert unknown.interval == single.interval == expected


def test_rounds_that_are_left_on_one_layout_of_several_give_nothing() -> None:
    subject = [1.0 if layout == 0 else None for layout in LAYOUTS]

    assert paired_ratio(subject, [1.0] * len(subject), LAYOUTS) is None
    assert judge(subject, [1.0] * len(subject), noise_floor=0.0, layouts=LAYOUTS).reason == (
        "all rounds with both samples ran on one of several layouts"
    )


def test_a_round_without_a_layout_is_refused() -> None:
    with pytest.raises(RecordError, match="12 rounds have 2 layouts"):
        paired_ratio([1.0] * 12, [1.0] * 12, (0, 1))


def test_rounds_are_clustered_by_whoever_had_fewer_layouts() -> None:
    assert shared_layouts((0, 1, 2, 3), (5, 5, 5, 5)) == (5, 5, 5, 5)
    assert shared_layouts((0, 1, 2, 3), ()) == ()


def test_on_one_layout_no_difference_below_two_percent_is_called_one() -> None:
    generator = np.random.RandomState(3)
    base = rounds(generator, offset=0.0)
    slower = [1.015 * value for value in rounds(generator, offset=0.0)]
    single = (0,) * len(base)

    judged = judge(slower, base, noise_floor=0.001, layouts=single)

    assert judge(slower, base, noise_floor=0.001).verdict is Verdict.SLOWER
    assert (judged.verdict, judged.noise_floor) == (Verdict.SAME, UNSEEN_LAYOUT)
    assert judge([1.05 * v for v in base], base, noise_floor=0.001, layouts=single).verdict is Verdict.SLOWER
    assert noise_floor_of(base, base, layouts=single) == UNSEEN_LAYOUT
