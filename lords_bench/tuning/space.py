"""`SearchSpace`: the configurations of one problem as plain data, in one canonical order.

A configuration is a tuple of (field, value) pairs of the kernel's own config dataclass, so strategies, stores and
workers need neither the kernel nor Triton. The default comes first, then the order in which the kernel lists its space;
that order decides between configurations that nothing else tells apart.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from math import log2
from typing import Any

from lords_bench.errors import LordsBenchError, UsageError
from lords_bench.products.tables import settings_of
from lords_bench.records.trial import Settings

Value = int | bool | str


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One field of a configuration and the values it takes in the space, in ascending or listed order."""

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """What a combination of values must satisfy; `name` says it in words, for the count of what was left out."""

    name: str
    holds: Callable[[Mapping[str, Value]], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """The configurations that may be tried.

    Attributes:
        configs: every configuration once, in canonical order; the default is the first.
        parameters: the fields that take more than one value.
        left_out: (reason, number) of combinations that are no configuration.

    Raises:
        UsageError: no configuration, or one that stands in the space twice.
    """

    configs: tuple[Settings, ...]
    parameters: tuple[Parameter, ...]
    left_out: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.configs:
            raise UsageError(f"an empty search space (left out: {dict(self.left_out)}); widen it")
        if len(set(self.configs)) != len(self.configs):
            raise UsageError("a configuration stands in the search space twice; list each once")

    @property
    def default(self) -> Settings:
        """What is used where nothing was tuned."""
        return self.configs[0]

    def __len__(self) -> int:
        return len(self.configs)

    def encode(self) -> list[list[float]]:
        """A row of numbers per configuration for a regression: log2 of counts, 0 or 1 of switches and words."""
        return [_encoded(dict(config), self.parameters) for config in self.configs]


def listed_space(configs: Sequence[Any], *, default: Any) -> SearchSpace:
    """The space of config dataclasses that a kernel lists; the default is put first, whether or not it is listed."""
    settings = tuple(dict.fromkeys(settings_of(config) for config in (default, *configs)))
    return space_of(settings)


def space_of(configs: Sequence[Settings]) -> SearchSpace:
    """A space of configurations that are plain data already, in their order."""
    return SearchSpace(configs=tuple(configs), parameters=_parameters(configs))


def product_space(
    config_type: type[Any],
    values: Mapping[str, Sequence[Value]],
    *,
    default: Any,
    constraints: Sequence[Constraint] = (),
) -> SearchSpace:
    """Every combination of values that the constraints and the config dataclass itself allow.

    Raises:
        UsageError: a name that is no field of the dataclass, or nothing is left.
    """
    known = [field.name for field in fields(config_type)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UsageError(f"{config_type.__name__} has no field {', '.join(unknown)}; it has {', '.join(known)}")
    names = [name for name in known if name in values]
    left_out: Counter[str] = Counter()
    configs: list[Settings] = [settings_of(default)]
    for combination in product(*(values[name] for name in names)):
        chosen = dict(zip(names, combination, strict=True))
        broken = next((constraint.name for constraint in constraints if not constraint.holds(chosen)), None)
        if broken is None:
            try:
                configs.append(settings_of(config_type(**chosen)))
            except LordsBenchError as error:
                broken = str(error)
        if broken is not None:
            left_out[broken] += 1
    settings = tuple(dict.fromkeys(configs))
    return SearchSpace(configs=settings, parameters=_parameters(settings), left_out=tuple(left_out.items()))


def _parameters(configs: Sequence[Settings]) -> tuple[Parameter, ...]:
    seen: dict[str, dict[Value, None]] = {}
    for config in configs:
        for name, value in config:
            seen.setdefault(name, {})[value] = None
    return tuple(
        Parameter(name=name, values=_ordered(tuple(values))) for name, values in seen.items() if len(values) > 1
    )


def _ordered(values: tuple[Value, ...]) -> tuple[Value, ...]:
    numbers = [value for value in values if isinstance(value, int)]
    return tuple(sorted(numbers)) if len(numbers) == len(values) else values


def _encoded(config: Mapping[str, Value], parameters: Sequence[Parameter]) -> list[float]:
    row: list[float] = []
    for parameter in parameters:
        value = config[parameter.name]
        if isinstance(value, bool):
            row.append(float(value))
        elif isinstance(value, int):
            row.append(log2(1 + abs(value)))
        else:
            row += [float(value == other) for other in parameter.values]
    return row
