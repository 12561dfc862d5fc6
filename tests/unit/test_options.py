"""What a field says of itself is what the command line takes, and a setting takes no other number."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from lords_bench.errors import UsageError
from lords_bench.options import (
    COUNT,
    COUNTS,
    DURATION,
    FROM_ZERO,
    POSITIVE,
    SEED,
    SHARE,
    Whole,
    Wholes,
    add_options,
    argument,
    check_numbers,
    names,
    option,
    ranges,
    settings_of,
)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    model: str = argument("a folder")
    out: Path = option("where to")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings(Base):
    rate: float = option("learning rate", POSITIVE, flag="--lr", default=0.5)
    max_steps: int | None = option("steps", COUNT, default=None)
    sizes: tuple[int, ...] = option("sizes", COUNTS, default=(4, 3))
    methods: tuple[str, ...] = option("only these", names, default=())
    data: tuple[str, ...] = option("files", nargs="+", metavar="FILE", default=())
    dtype: Literal["float32", "bfloat16"] = option("to compute in", default="float32")
    device: Literal["cpu", "cuda"] | None = option("where", group="place", default=None)
    history: str | None = option("over commits", nargs="?", const="kl", default=None)
    no_page: bool = option("records only", default=False)
    command: str = "none"
    is_fake: bool = False


def parsed(*words: str, **others: object) -> Settings:
    parser = argparse.ArgumentParser()
    add_options(parser, Settings)
    parser.set_defaults(command="asked")
    return settings_of(Settings, parser.parse_args(words), **others)


def help_text() -> str:
    parser = argparse.ArgumentParser(prog="x")
    add_options(parser, Settings)
    return " ".join(parser.format_help().split())


def test_what_is_left_out_is_the_field_s_default_and_what_no_option_fills_is_the_parser_s_or_the_caller_s() -> None:
    assert parsed("m", "--out", "o") == Settings(model="m", out=Path("o"), command="asked")
    assert parsed("m", "--out", "o", is_fake=True).is_fake


def test_every_kind_of_field_is_read_as_what_it_is() -> None:
    options = ("--lr", "2", "--max-steps", "7", "--sizes", "1,2", "--methods", "a,b", "--data", "x", "y")
    more = ("--dtype", "bfloat16", "--device", "cuda", "--history", "--no-page")

    found = parsed("m", "--out", "o", *options, *more)

    assert found == Settings(
        model="m", out=Path("o"), rate=2.0, max_steps=7, sizes=(1, 2), methods=("a", "b"), data=("x", "y"),
        dtype="bfloat16", device="cuda", history="kl", no_page=True, command="asked",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("m",), "the following arguments are required: --out"),
        (("--out", "o"), "the following arguments are required: MODEL"),
        (("m", "--out", "o", "--max-steps", "0"), "argument --max-steps: '0' is no whole number from 1"),
        (("m", "--out", "o", "--dtype", "int8"), "argument --dtype: invalid choice: 'int8'"),
        (("m", "--out", "o", "--methods", ","), "argument --methods: ',' names nothing"),
        (("m", "--out", "o", "--is-fake"), "unrecognized arguments: --is-fake"),
    ],
)
def test_what_a_field_does_not_take_is_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parsed(*words)

    assert message in capsys.readouterr().err


def test_the_help_tells_defaults_that_say_something_and_what_values_look_like() -> None:
    text = help_text()

    assert "--lr X learning rate (default: 0.5)" in text
    assert "--max-steps N steps --sizes" in text
    assert "--sizes N,… sizes (default: 4,3)" in text
    assert "--methods NAME,… only these --data" in text
    assert "--dtype {float32,bfloat16} to compute in (default: float32)" in text
    assert "place: --device {cpu,cuda} where" in text
    assert "MODEL a folder" in text
    assert "--no-page records only" in text


def test_a_default_that_a_parser_sets_is_the_one_that_is_told() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Settings)
    parser.set_defaults(rate=0.25)

    assert "(default: 0.25)" in parser.format_help()


def test_the_ranges_are_checked_for_callers_in_python_too() -> None:
    assert ranges(Settings) == {"rate": POSITIVE, "max_steps": COUNT}
    check_numbers(Settings(model="m", out=Path("o")))
    with pytest.raises(UsageError, match=r"max_steps=0 is no whole number from 1"):
        check_numbers(Settings(model="m", out=Path("o"), max_steps=0))
