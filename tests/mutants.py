"""Every way to change a field of a noun: numbers scaled, negated and zeroed, words misspelt, tuples cut, lengthened.

For tests that ask whether any change of a record goes unnoticed.
"""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from lords_bench.errors import LordsBenchError
from lords_bench.records.codec import KINDS, decode_noun, encode_line


def other_values(value: Any) -> Iterator[Any]:
    """What a field's value is changed to."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        whole = isinstance(value, int)
        yield from (2 * value, value // 2 if whole else value / 2, type(value)(0), -value, value + 1)
    elif value is None:
        yield from (1, "other")
    elif isinstance(value, str):
        yield from (re.sub(r"\d(?=\D*$)", lambda found: str((int(found[0]) + 1) % 10), value), f"{value}x", "")
    elif isinstance(value, tuple):
        yield from _other_tuples(value)
    elif is_dataclass(value):
        for _, changed in mutants(value):
            yield changed


def _other_tuples(value: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Another length, all numbers changed alike, and each way to change the first and the last item."""
    yield ()
    yield value[:-1]
    yield (*value, *value[-1:])
    if value and all(isinstance(item, int | float) for item in value):
        yield from zip(*(tuple(other_values(item)) for item in value), strict=True)
    for index in sorted({0, len(value) - 1}) if value else ():
        for item in other_values(value[index]):
            yield (*value[:index], item, *value[index + 1 :])


def mutants(noun: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path of a field, the noun with that field changed): every field of it and of the nouns in it.

    What cannot stand in a line of a file is left out: the codec and the constructors refuse it.
    """
    for field in fields(noun):
        value, path = getattr(noun, field.name), f"{prefix}{field.name}"
        inner = mutants(value, f"{path}.") if is_dataclass(value) else ((path, other) for other in other_values(value))
        for name, other in inner:
            # -0.0 is 0.0, and False is no 0.
            if type(other) is type(value) and other == value:
                continue
            try:
                mutant = replace(noun, **{field.name: other})
                if type(mutant) in KINDS.values():
                    decode_noun(encode_line(mutant), type(noun))
            except (LordsBenchError, TypeError, ValueError, AttributeError, ArithmeticError):
                continue
            yield name, mutant
