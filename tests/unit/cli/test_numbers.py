"""Every number that a command takes is checked when it is read: a new option without a range is red here."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from lords_bench.cli import main
from lords_bench.cli.parser import build_parser
from lords_bench.options import Duration, Real, Whole, Wholes, any_names

NUMBERS = (Whole, Real, Wholes, Duration)
# Options that take words: names, files, addresses. Each is refused, where it can be wrong, by what reads it.
WORDS = {
    "bench accuracy --calibration", "bench accuracy --methods", "bench accuracy --model", "bench accuracy --name",
    "bench accuracy --out", "bench accuracy --tasks",
    "bench latency --kernels", "bench latency --models", "bench latency --name", "bench latency --out",
    "bench latency --regimes",
    "bench lifecycle --methods", "bench lifecycle --model", "bench lifecycle --name", "bench lifecycle --out",
    "bench ptq --methods", "bench ptq --name", "bench ptq --out",
    "bench step --name", "bench step --out",
    "eval --reference", "eval --tasks", "eval model",
    "explain --device", "explain --tables",
    "export out", "export records",
    "gate --baseline", "gate --believe", "gate --cache", "gate --cases", "gate --device-name", "gate --head",
    "gate --junit", "gate --link-base", "gate --markdown", "gate --methods", "gate --only", "gate --out", "gate --save",
    "gate --targets",
    "gpu --from", "gpu --out", "gpu --pack", "gpu --steps", "gpu --take",
    "kernels --cache", "kernels --device", "kernels --gpu", "kernels --only", "kernels --out", "kernels --targets",
    "quantize --calibration", "quantize --levels", "quantize --method", "quantize --out", "quantize model",
    "report --history", "report --out",
    "testbed card model", "testbed train --out",
    "train peft --data", "train peft --eval-data", "train peft --method", "train peft --out", "train peft model",
    "train qat --data", "train qat --eval-data", "train qat --method", "train qat --out", "train qat model",
    "tune --out", "tune --shapes", "tune --strategy", "tune kernels",
}  # fmt: skip
HOSTILE = (
    "nan",
    "inf",
    "-inf",
    "-1",
    "1e999",
    "1e400",
    "10" * 20,
    "9" * 5000,
    "",
    " ",
    "x",
    "0x10",
    "1;2",
    "−1",
    "1\n2",
)
# What else is out of range where 0, halves or large seeds are.
ZERO, HALF = "0", "1.5"

Option = tuple[tuple[str, ...], argparse.Action]


def options(parser: argparse.ArgumentParser, command: tuple[str, ...] = ()) -> Iterator[Option]:
    """Every option and positional argument that takes a value, with the command it belongs to."""
    for action in parser._actions:  # noqa: SLF001  (argparse has no other way to ask)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, below in action.choices.items():
                yield from options(below, (*command, name))
        elif action.nargs != 0:
            yield command, action


def name_of(option: Option) -> str:
    command, action = option
    return " ".join((*command, action.option_strings[-1] if action.option_strings else action.dest))


OPTIONS = {name_of(option): option for option in options(build_parser())}
NUMERIC = {name: option for name, option in OPTIONS.items() if isinstance(option[1].type, NUMBERS)}


def test_every_option_is_a_number_with_a_range_a_choice_or_a_word() -> None:
    others = {name for name, (_, action) in OPTIONS.items() if name not in NUMERIC and action.choices is None}

    assert others == WORDS


def test_defaults_are_in_range() -> None:
    for name, (_, action) in NUMERIC.items():
        if isinstance(action.default, int | float):
            assert action.type(str(action.default)) == action.default, name  # type: ignore[operator]


def refused(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line by which a value is refused."""
    command, action = OPTIONS[name]
    # "=" and "--" keep a value that begins with a dash from being taken for an option.
    words = [f"{option}={value}" for option in action.option_strings[-1:]]
    if not words:
        before = [other.dest for of, other in OPTIONS.values() if of == command and not other.option_strings]
        words = ["--", *["1"] * before.index(action.dest), value]
    with pytest.raises(SystemExit) as ended:
        main([*command, *words])
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    return printed.err


@pytest.mark.parametrize("name", NUMERIC)
def test_a_hostile_value_is_refused_in_one_line_and_nothing_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    errors = [refused(name, value, capsys) for value in HOSTILE]

    label = name.rpartition(" ")[-1]
    for error in errors:
        assert error.lower().startswith(f"lords-bench: argument {label}: ")
        assert error.count("\n") == 1
        assert len(error) < 250
    assert list(tmp_path.iterdir()) == []


def numeric(*, allow: str) -> list[str]:
    """Options whose range holds this text, by their types."""

    def allows(action: argparse.Action) -> bool:
        assert action.type is not None
        try:
            action.type(allow)  # type: ignore[operator]
        except argparse.ArgumentTypeError:
            return False
        return True

    return [name for name, (_, action) in NUMERIC.items() if allows(action)]


def test_zero_is_a_value_of_these_options_and_of_no_other() -> None:
    seeds = {"tune --seed", "train qat --seed", "train peft --seed"}

    assert set(numeric(allow=ZERO)) == {
        *seeds,
        "gate --retries",
        "train qat --warmup-steps",
        "train peft --warmup-steps",
    }


def test_a_half_is_a_value_of_these_options_and_of_no_other() -> None:
    rates = {f"train {mode} {option}" for mode in ("qat", "peft") for option in ("--lr", "--scale-lr", "--epochs")}
    times = {
        "bench latency --minutes",
        "bench ptq --minutes",
        "gpu --minutes",
        "testbed train --seconds",
        "tune --timeout",
        "tune --budget",
        "tune --least",
    }

    assert set(numeric(allow=HALF)) == rates | times


def test_seeds_are_those_that_every_generator_takes() -> None:
    assert set(numeric(allow=str(2**32 - 1))) == {"tune --seed", "train qat --seed", "train peft --seed"}
    assert numeric(allow=str(2**32)) == []


WORD_OPTIONS = [name for name in OPTIONS if name.rpartition(" ")[-1].startswith("--")]
# What an empty text means, options say that take one: of everything, or nothing in front.
MAY_BE_EMPTY = {
    "gate --believe", "gate --cases", "gate --link-base", "gate --methods", "gate --only", "kernels --only",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in WORD_OPTIONS if name not in MAY_BE_EMPTY])
def test_an_empty_value_is_no_default_and_no_working_folder(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(name, "", capsys)

    assert error.startswith("lords-bench: argument ")
    assert error.count("\n") == 1


def test_these_options_say_that_they_may_be_empty() -> None:
    assert {name for name, (_, action) in OPTIONS.items() if action.type in (str, any_names)} == MAY_BE_EMPTY


@pytest.mark.parametrize("name", WORD_OPTIONS)
def test_two_dashes_are_no_value(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(name, "--", capsys)

    assert error.startswith(f"lords-bench: argument {name.rpartition(' ')[-1]}: '--' is no value")
