import argparse
from typing import Any

import pytest

from lords_bench.errors import UsageError
from lords_bench.options import COUNT, COUNTS, DURATION, FROM_ZERO, POSITIVE, SEED, SHARE, Whole, Wholes


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "nan", "inf", "", "four", "1" + "0" * 10, "9" * 5000])
def test_text_that_is_no_count_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"is no whole number from 1 to 1,000,000,000") as raised:
        COUNT(text)

    assert len(str(raised.value)) < 120


@pytest.mark.parametrize("value", [0, -1, True, 1.0, float("nan"), None, "3", 10**400])
def test_a_value_that_is_no_count_is_refused_with_its_name(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^batch=.* is no whole number from 1 to 1,000,000,000$") as raised:
        COUNT.check("batch", value)

    assert len(str(raised.value)) < 140


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), float("-inf"), True, None, 10**400])
def test_a_value_that_is_not_positive_and_finite_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="is no number above 0"):
        POSITIVE.check("rate", value)


def test_the_ends_of_a_range_belong_to_it() -> None:
    numbers = Whole(least=2, most=4)

    assert [number for number in range(7) if numbers.allows(number)] == [2, 3, 4]
    assert (SEED("0"), SEED("4294967295"), FROM_ZERO("0"), POSITIVE("1e-300"), POSITIVE("1")) == (
        0, 4294967295, 0, 1e-300, 1.0,
    )  # fmt: skip
    assert SHARE.allows(0)
    assert SHARE.allows(1)
    assert not SHARE.allows(1.000001)
    assert not SEED.allows(2**32)


def test_a_list_is_read_with_blanks_and_empty_places() -> None:
    assert COUNTS(" 4, 3,,") == (4, 3)
    assert Wholes(each=COUNT, word="parity")("parity") == "parity"


@pytest.mark.parametrize("text", ["", ",", "4,0", "4;3", "parity"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        COUNTS(text)


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("5m", 300), ("1h", 3600), ("12", 12), ("0.5m", 30)])
def test_a_time_is_read_as_seconds(text: str, value: float) -> None:
    assert DURATION(text) == value


@pytest.mark.parametrize("text", ["", "m", "-5m", "0", "inf", "nan", "5 minutes", "1e300h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no time such as 90s"):
        DURATION(text)
