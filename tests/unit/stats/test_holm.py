"""Holm's correction and the test between processes, against cases worked by hand."""

import numpy as np
import pytest

from lords_bench.stats.holm import process_noise, rejected_by_holm, slower_p_value


def test_holm_steps_down_until_the_first_that_stands() -> None:
    p_values = {"a": 0.010, "b": 0.020, "c": 0.024, "d": 0.9}

    # 0.010 ≤ 0.05/4 is rejected; 0.020 > 0.05/3 ends it.
    assert rejected_by_holm(p_values, alpha=0.05) == {"a"}
    assert rejected_by_holm({"a": 0.010, "b": 0.016, "c": 0.024}, alpha=0.05) == {"a", "b", "c"}


def test_the_family_wise_error_is_kept_over_twenty_true_hypotheses() -> None:
    stream = np.random.default_rng(0)
    families = [rejected_by_holm({str(i): p for i, p in enumerate(stream.random(20))}, alpha=0.05) for _ in range(400)]

    # 5 % of 400 is 20; three standard deviations of that count are 13.
    assert sum(bool(family) for family in families) <= 33


def test_a_slower_side_has_a_small_p_value_and_a_faster_one_a_large() -> None:
    slow, fast = [0.021, 0.020, 0.0195], [0.0, 0.001, -0.0005]

    assert slower_p_value(slow, fast) < 0.001
    assert slower_p_value(fast, slow) > 0.999


@pytest.mark.parametrize(("subject", "p_value"), [([0.1, 0.1], 0.0), ([0.0, 0.0], 1.0)])
def test_sides_without_any_spread_are_decided_by_their_order(subject: list[float], p_value: float) -> None:
    assert slower_p_value(subject, [0.0, 0.0]) == p_value


def test_one_process_proves_nothing() -> None:
    assert slower_p_value([0.5], [0.0, 0.0]) == 1.0
    assert process_noise([0.5], [0.0, 0.0]) == float("inf")


def test_more_processes_shrink_what_two_equal_sides_may_differ_by() -> None:
    stream = np.random.default_rng(1)
    few, many = stream.normal(0, 0.01, (2, 3)), stream.normal(0, 0.01, (2, 30))

    assert process_noise(list(many[0]), list(many[1])) < process_noise(list(few[0]), list(few[1])) / 2
    assert process_noise([0.1, 0.1], [0.3, 0.3]) == 0.0
