"""Which numbers a setting takes: one rule for a command line, where it is read, and for a settings dataclass.

    parser.add_argument("--batch", type=COUNT)      refuses what is no whole number from 1, in one line
    COUNT.check("batch", settings.batch)            the same for a caller in Python

Limits above are there so that a slip of the finger is refused, rather than tried for years.
"""

import argparse
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from lords_bench.errors import UsageError

Number = TypeVar("Number", int, float)


class _Range(ABC, Generic[Number]):
    """Numbers of a kind, from a limit to a limit; called with text it reads one, as a type of argparse."""

    __slots__ = ()

    def __call__(self, text: str) -> Number:
        """The number.

        Raises:
            ArgumentTypeError: it is none, or out of range.
        """
        try:
            value = self._convert(text)
        except ValueError:
            value = None
        if value is None or not self.allows(value):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no {self.wanted}")
        return value

    def check(self, name: str, value: object) -> None:
        """Refuse what the setting `name` may not be.

        Raises:
            UsageError: it is no such number, or out of range.
        """
        if not self.allows(value):
            raise UsageError(f"{name}={shown(value)} is no {self.wanted}")

    @abstractmethod
    def allows(self, value: object) -> bool:
        """Whether a setting may have this value."""

    @property
    @abstractmethod
    def wanted(self) -> str:
        """In words, for the remedy."""

    @staticmethod
    @abstractmethod
    def _convert(text: str) -> Number: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole(_Range[int]):
    """Whole numbers from `least` to `most`."""

    least: int = 1
    most: int = 10**9

    def allows(self, value: object) -> bool:
        """Whether it is an int in the range; True and 1.0 are none."""
        return isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most

    @property
    def wanted(self) -> str:
        """In words, for the remedy."""
        return f"whole number from {self.least:,} to {self.most:,}"

    @staticmethod
    def _convert(text: str) -> int:
        return int(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Real(_Range[float]):
    """Numbers from `least` to `most`, which is finite; `least` itself only where `with_least`."""

    least: float = 0.0
    most: float = 1e9
    with_least: bool = False

    def allows(self, value: object) -> bool:
        """Whether it is a float or int in the range; NaN is in none."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not value <= self.most:
            return False
        return value > self.least or (self.with_least and value == self.least)

    @property
    def wanted(self) -> str:
        """In words, for the remedy."""
        return f"number {'from' if self.with_least else 'above'} {self.least:g} to {self.most:,.12g}"

    @staticmethod
    def _convert(text: str) -> float:
        return float(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wholes:
    """Lists of whole numbers such as `4,3`; called with text it reads one, as a type of argparse.

    Attributes:
        each: what every one of them may be.
        word: what may stand in the place of the list, and is given back.
    """

    each: Whole
    word: str | None = None

    def __call__(self, text: str) -> tuple[int, ...] | str:
        """The numbers between commas; empty places are left out.

        Raises:
            ArgumentTypeError: something else stands there, or nothing.
        """
        if self.word is not None and text == self.word:
            return text
        found = tuple(part.strip() for part in text.split(",") if part.strip())
        if not found:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no list of numbers such as 4,3")
        return tuple(self.each(part) for part in found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Duration:
    """Times such as `90s`, `5m`, `1h` or a bare number of seconds, as a type of argparse; gives seconds."""

    each: Real

    def __call__(self, text: str) -> float:
        """Seconds.

        Raises:
            ArgumentTypeError: neither of them, or out of range.
        """
        factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
        try:
            value = float(text if factor is None else text[:-1]) * (factor or 1)
        except ValueError:
            value = 0.0
        if not self.each.allows(value):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no time such as 90s, 5m or 1h, up to a year")
        return value


COUNT = Whole()
FROM_ZERO = Whole(least=0)
# What random generators of Python, numpy and torch all take.
SEED = Whole(least=0, most=2**32 - 1)
BIT_COUNT = Whole(least=2, most=4)
# Processes at a time; each costs some hundred megabytes.
WORKERS = Whole(most=4096)
# Of text, in tokens; the first one is predicted by nothing.
WINDOW = Whole(least=2)
POSITIVE = Real()
EPOCHS = Real(most=1e6)
NOT_NEGATIVE = Real(with_least=True)
# Of a whole; 0 and 1 are shares.
SHARE = Real(most=1, with_least=True)
# Of a running mean; at 1 it would never move.
DECAY = Real(most=0.999999, with_least=True)
_YEAR_S = 366 * 24 * 3600
SECONDS = Real(most=_YEAR_S)
MINUTES = Real(most=_YEAR_S / 60)
DURATION = Duration(each=SECONDS)
COUNTS = Wholes(each=COUNT)
BIT_COUNTS = Wholes(each=BIT_COUNT)


def shown(value: object) -> str:
    """A value in a message: of 60 characters at most, also a number that Python refuses to write."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "a number of more than 40 digits"
    return text[:60]
