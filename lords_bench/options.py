"""Options of a command line, declared once: on the fields of the settings that they fill.

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Settings:
        model: str = argument("a folder")
        steps: int | None = option("optimizer steps", COUNT, default=None)
        dtype: Literal["float32", "bfloat16"] = option("to compute in", default="float32")

    add_options(parser, Settings)                               MODEL, --steps N, --dtype {float32,bfloat16}
    settings = settings_of(Settings, parser.parse_args())

What a field says is not said again: a bool is a switch, a `Literal` has its choices, a `Path` is read as one, a field
without a default must be given, and a default is told in the help. A field without `option` or `argument` is none of
the command line's.
"""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args, get_origin

from lords_bench.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

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
EIGHT = Whole(least=8, most=8)
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


Settings = TypeVar("Settings", bound="DataclassInstance")
Value = TypeVar("Value")

_REQUIRED: Any = MISSING
_KEY = "option"


def any_names(text: str) -> tuple[str, ...]:
    """The names between commas, as a type of argparse; empty ones are left out, and there may be none."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def names(text: str) -> tuple[str, ...]:
    """The names between commas, at least one.

    Raises:
        ArgumentTypeError: there is none.
    """
    found = any_names(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing; leave the option out for all")
    return found


# What values look like in the help, by what reads them.
_METAVARS: Mapping[object, str] = MappingProxyType(
    {Whole: "N", Real: "X", Wholes: "N,…", Duration: "TIME", Path: "FILE", names: "NAME,…", any_names: "NAME,…"}
)


def option(  # noqa: PLR0913  (what can be said of an option)
    text: str,
    kind: Callable[[str], object] | None = None,
    *,
    default: Value = _REQUIRED,
    flag: str | None = None,
    metavar: str | None = None,
    nargs: str | None = None,
    const: object = None,
    group: str | None = None,
    since: int | None = None,
) -> Value:
    """A field that an option fills.

    Args:
        text: what it means, for the help.
        kind: reads the text, as the types of `numbers` do; None where the field's type says it.
        default: without one it must be given.
        flag: where it is not `--` and the field's name.
        metavar: stands for the value in the help.
        nargs: how many values, as argparse counts them; a field of several is a tuple.
        const: the value of the option by itself, where `nargs` is `?`.
        group: heading of the help, over this field and those behind it.
        since: minor version of the record schema that the field came with (`records.codec`); None is the first.
    """
    told = {"help": text, "type": kind, "metavar": metavar, "nargs": nargs, "const": const}
    known = {name: value for name, value in told.items() if value is not None}
    version = {} if since is None else {"since": since}
    found: Value = field(default=default, metadata={_KEY: (flag, group, known), **version})
    return found


def argument(text: str, kind: Callable[[str], object] | None = None, **others: Any) -> Any:
    """A field that is given by its place; see `option`."""
    return option(text, kind, flag="", **others)


def add_options(parser: argparse.ArgumentParser, settings: "type[DataclassInstance]") -> None:
    """Add what the fields declare."""
    place: argparse._ActionsContainer = parser
    for item in fields(settings):
        if _KEY not in item.metadata:
            continue
        flag, group, _ = item.metadata[_KEY]
        place = place if group is None else parser.add_argument_group(group)
        keywords = _keywords(item)
        if flag == "":
            place.add_argument(item.name, **keywords)
        else:
            required = item.default is MISSING
            place.add_argument(
                flag or f"--{item.name.replace('_', '-')}", dest=item.name, required=required, **keywords
            )


def settings_of(settings: type[Settings], arguments: argparse.Namespace, **others: object) -> Settings:
    """The settings that the arguments fill, with those that no option fills as `others` or defaults of the parser."""
    found = {item.name: getattr(arguments, item.name) for item in fields(settings) if item.name in arguments}
    several = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
    return settings(**found | several | others)


def ranges(settings: "type[DataclassInstance]") -> dict[str, Whole | Real]:
    """What each number may be, by field."""
    kinds = {item.name: item.metadata[_KEY][2].get("type") for item in fields(settings) if _KEY in item.metadata}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, Whole | Real)}


def check_numbers(settings: "DataclassInstance") -> None:
    """Refuse a number that its option would not take; None is taken where it is the default.

    Raises:
        UsageError: one out of its range.
    """
    defaults = {item.name: item.default for item in fields(settings)}
    for name, kind in ranges(type(settings)).items():
        value = getattr(settings, name)
        if value is not None or defaults[name] is not None:
            kind.check(name, value)


def _keywords(item: "Field[Any]") -> dict[str, Any]:
    """What argparse is told of a field."""
    flag, _, told = item.metadata[_KEY]
    kinds = [kind for kind in get_args(item.type) if kind is not NoneType]
    kind = kinds[0] if len(kinds) == 1 and NoneType in get_args(item.type) else item.type
    if kind is bool:
        return {"action": "store_true", "help": told["help"]}
    keywords = {"type": Path, **told} if kind is Path else dict(told)
    if get_origin(kind) is Literal:
        keywords["choices"] = get_args(kind)
    else:
        read = keywords.get("type")
        seen = _METAVARS.get(type(read)) or _METAVARS.get(read)
        keywords.setdefault("metavar", item.name.upper() if flag == "" else seen)
    if item.default is not MISSING:
        keywords["default"] = item.default
        keywords["help"] += _told_default(item.default, keywords["help"])
    return keywords


def _told_default(default: object, text: str) -> str:
    """The end of a help text, where neither the text nor the kind of option says what is taken."""
    if default is None or default in ((), "") or "(default" in text:
        return ""
    return f" (default: {','.join(map(str, default)) if isinstance(default, tuple) else '%(default)s'})"
