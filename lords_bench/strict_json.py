"""JSON that another program or a person wrote, read without surprises.

The standard parser accepts NaN and infinity, which are no JSON, takes the last of two fields of one name, ends in a
`RecursionError` for a text that is nested deeply, and makes of a few bytes for each value some hundred. All four are a
`ValueError` here, with one line that says why.
"""

import json
import re
from typing import Any

from lords_bench.errors import reason_of
from lords_bench.text import one_line

# The largest committed record has 2,000. So many of `[]` take 400 MB, and a text of 64 MiB could hold ten times more.
MOST_VALUES = 5_000_000
_DIGITS = re.compile(r"value has (\d+) digits")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or none that can be believed; one line.
    """
    # Every value but the first follows one of these; those inside of strings are counted too, which errs on one side.
    marks = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    if sum(map(text.count, marks)) > MOST_VALUES:  # type: ignore[arg-type]
        raise ValueError(f"it holds more than {MOST_VALUES:,} values")
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except ValueError as error:
        digits = _DIGITS.search(reason_of(error))
        raise ValueError(f"a number of {digits[1]} digits" if digits else reason_of(error)) from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {one_line(twice, most=60)!r} stands there twice")
    return found
