"""A JSON object out of a file that anybody may have written: of a bounded size, or a ValueError of one line.

`json` alone follows a few bytes of brackets until the stack or the memory ends, and gives a list as gladly as an
object. What the fields are is for the reader to check: JSON has numbers that are no numbers, and strings of any kind.
"""

import json
from pathlib import Path
from typing import Any

# The index of a model of 700 billion weights has 9 MB and 92,000 values. These allow three tensors where that has one,
# and what comes out of them takes less than 200 MB.
MOST_BYTES = 32 << 20
MOST_VALUES = 500_000


def object_of(text: str) -> dict[str, Any]:
    """The object that a text is.

    Raises:
        ValueError: it is none, or too large.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES >> 20} MB of JSON")
    # Every value but the first follows one of these; those inside of strings are counted too, which errs on one side.
    if sum(map(text.count, ",[{")) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("values nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"a JSON {type(found).__name__} where an object is due")  # noqa: TRY004  (as for any bad text)
    return found


def read_object(path: Path) -> dict[str, Any]:
    """The object that a file holds, in UTF-8.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds none, or one that is too large.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    return object_of(content.decode("utf-8"))
