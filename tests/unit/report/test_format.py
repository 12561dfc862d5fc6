"""Numbers as text: digits that mean something, true minus signs, no negative zero."""

import pytest

from lords_bench.report.format import decimals_for, listing, number, seconds, span
from lords_bench.stats import Interval, PairedDifference
from lords_bench.suites.accuracy.metrics import METRICS, difference, estimate, relative


@pytest.mark.parametrize(
    ("value", "decimals", "sign", "text"),
    [
        (1.005, 1, False, "1.0"),
        (-0.04, 1, True, "0.0"),
        (-0.06, 1, True, "−0.1"),
        (3.0, 2, True, "+3.00"),
        (-12.5, 1, False, "−12.5"),
        (0.0, 0, True, "0"),
    ],
)
def test_numbers_have_fixed_decimals_and_no_negative_zero(value: float, decimals: int, sign: bool, text: str) -> None:
    assert number(value, decimals, sign=sign) == text


@pytest.mark.parametrize(("value", "decimals"), [(262.0, 0), (24.4, 1), (1.67, 2), (0.0072, 5), (1e-9, 5), (0.0, 1)])
def test_three_significant_digits_within_bounds(value: float, decimals: int) -> None:
    assert decimals_for(value, 3) == decimals


def test_an_estimate_and_its_interval_share_their_decimals() -> None:
    shown = estimate(Interval(estimate=0.0198, low=0.01891, high=0.0207), METRICS["kl"])

    assert shown == ("19.8", "18.9 … 20.7")


def test_an_estimate_without_an_interval_says_so() -> None:
    assert estimate(Interval(estimate=0.5, low=None, high=None), METRICS["choice"]) == ("50.0", "no interval")
    assert estimate(None, METRICS["choice"]) == ("–", "")


def test_a_difference_carries_its_sign_at_both_ends() -> None:
    interval = Interval(estimate=-0.0046, low=-0.0051, high=0.0001)
    paired = PairedDifference(interval=interval, baseline=0.0244, lower_is_better=True)

    assert difference(paired, METRICS["kl"]) == ("−4.6", "−5.1 … +0.1")
    assert relative(paired) == ("−19 %", "−21 … 0 %")


def test_a_difference_of_zero_has_an_interval_without_signs() -> None:
    assert span(Interval(estimate=0.0, low=0.0, high=0.0), 1, sign=True) == "0.0 … 0.0"


@pytest.mark.parametrize(
    ("items", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_lists_read_as_a_sentence_does(items: list[str], text: str) -> None:
    assert listing(items) == text


@pytest.mark.parametrize(("value", "text"), [(4.23, "4.2 s"), (200.0, "3 min 20 s"), (7260.0, "2 h 1 min")])
def test_durations_are_for_people(value: float, text: str) -> None:
    assert seconds(value) == text
